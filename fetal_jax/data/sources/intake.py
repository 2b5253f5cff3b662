"""What a source holds, and what of it becomes images: nothing is left out without a word."""

import msgspec


class Intake(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
  """The count of what was read.

  Attributes:
    images: number taken.
    left_out: why -> number of the others.
    files: number found; None where the source has no files.
    rows: of the source's table; None where it has none.
  """

  images: int
  left_out: dict[str, int]
  files: int | None = None
  rows: int | None = None

  def __str__(self) -> str:
    """Returns, for example, `12,400 rows and 12,403 files read, 12,400 images taken; left out: nothing`."""
    counts = {'rows': self.rows, 'files': self.files}
    read = ' and '.join(f'{count:,} {what}' for what, count in counts.items() if count is not None)
    left_out = ', '.join(f'{count:,} {why}' for why, count in self.left_out.items())
    return f'{read} read, {self.images:,} images taken; left out: {left_out or "nothing"}'
