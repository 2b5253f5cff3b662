"""The sections of the page, one topic a file, in the page's order."""

import pathlib

from fetal_jax.report.page import Section
from fetal_jax.report.run import Run
from fetal_jax.report.sections import (
  accuracy,
  certainty,
  classifiers,
  copies,
  curve,
  data,
  fidelity,
  filter,
  images,
  leakage,
  limits,
  missing,
  quality,
  ran,
  summary,
  sweep,
  training,
)


def make(run: Run, workdir: pathlib.Path, *, show_real_images: bool) -> list[Section]:
  """Returns the sections of the page that have something to say, in order.

  Args:
    run: what the workdir holds.
    workdir: where pictures are.
    show_real_images: whether the page may show real images.
  """
  found = [
    summary.section(run, quality.row(run, workdir, show_real_images=show_real_images)),
    accuracy.section(run),
    certainty.section(run),
    curve.section(run),
    filter.section(run, workdir),
    fidelity.section(run),
    copies.section(run, workdir, show_real_images=show_real_images),
    leakage.section(run),
    sweep.section(run, workdir),
    classifiers.section(run),
    data.section(run),
    images.section(run, workdir, show_real_images=show_real_images),
    training.section(run, workdir),
    ran.section(run),
    limits.section(run),
    missing.section(run),
  ]
  return [section for section in found if section is not None]
