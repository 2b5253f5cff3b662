"""What is missing is listed."""

from helpers import fake_run

from fetal_jax.report.page import Bullets
from fetal_jax.report.sections import missing


def test_what_is_missing_is_listed():
  (bullets,) = missing.section(fake_run.make(missing=['This.', 'That.'])).blocks
  assert bullets == Bullets(['This.', 'That.'])


def test_where_nothing_is_missing_there_is_no_section():
  assert missing.section(fake_run.make()) is None
