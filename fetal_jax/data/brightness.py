"""How bright a data set is: 12 bits in a file of 16 come out nearly black, and that has to be said."""

import threading

from PIL import Image

_SIXTEEN = 65535
_EIGHT = 255


class Brightness:
  """The brightest values of many images; several threads may add to it."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._wide = 0  # images with 16 bits
    self._dark: list[int] = []  # of those the brightest values that leave the highest bit unused
    self._brightest = 0  # of all images, of 255

  def add(self, shown: Image.Image, wide: int | None) -> None:
    """Counts an image.

    Args:
      shown: it with 8 bits, grey or RGB.
      wide: its brightest value with 16 bits; None where it has fewer.
    """
    extrema = shown.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    brightest = max(int(band[1]) for band in bands)
    with self._lock:
      self._brightest = max(self._brightest, brightest)
      self._wide += wide is not None
      if wide and wide <= _SIXTEEN // 2:
        self._dark.append(wide)

  def warning(self) -> str | None:
    """Returns what must be said of these images; None if nothing."""
    if self._dark:
      brightest = max(self._dark)
      bits = brightest.bit_length()
      return (
        f'{len(self._dark):,} of {self._wide:,} images of 16 bits hold {bits} bits or fewer (their brightest value is '
        f'{brightest:,} of {_SIXTEEN:,}), so they come out dark: multiply their values by {2 ** (16 - bits)} in the '
        'files, and prepare them in a new --workdir'
      )
    if 0 < self._brightest <= _EIGHT // 2:
      return (
        f'the brightest value of all images is {self._brightest} of {_EIGHT}, so they come out dark: scale their '
        'values in the files if more is in them, and prepare them in a new --workdir'
      )
    return None
