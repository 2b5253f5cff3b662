"""What is missing in the workdir."""

from fetal_jax.report.page import Bullets, Section
from fetal_jax.report.run import Run


def section(run: Run) -> Section | None:
  """Lists what is missing; None if nothing is."""
  return Section('missing', 'What is missing', [Bullets(run.missing)], nav='Missing') if run.missing else None
