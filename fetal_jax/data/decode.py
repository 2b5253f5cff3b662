"""Decoding: from encoded images to the uint8 array that the models are fed from."""

import contextlib
import io
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fetal_jax.data.brightness import Brightness
from fetal_jax.data.problems import Problems
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress

RECORDS_A_READ = 64
RESIZES = ('stretch', 'pad', 'crop')

FORMATS = ('PNG', 'JPEG', 'BMP', 'TIFF', 'GIF', 'WEBP')  # Pillow knows more, some of which run programs
MAX_PIXELS = 2**25  # such as 5792 x 5792; an ultrasound machine's have less than 2^21
MAX_SIDE = 65_535  # in pixels; tables for resizing grow with it
# What a thread takes at most while it decodes, beside the encoded image: MAX_PIXELS x BYTES_A_PIXEL, 512 MiB.
BYTES_A_PIXEL = 16
MAX_BYTES = 256 * 2**20  # of an encoded image: as many pixels in 16-bit RGB, not compressed


class BadImage(ValueError):
  """Bytes that are not one whole picture; says why in a few words."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
  """Turns every error that Pillow's parsers raise for damaged bytes into a BadImage."""
  try:
    yield
  except (BadImage, MemoryError):
    raise
  except UnidentifiedImageError as error:
    raise BadImage(f'not an image, or not of a known format: {", ".join(FORMATS)}') from error
  except Exception as error:  # OSError, SyntaxError, KeyError, struct.error and more
    raise BadImage(' '.join(str(error).split()) or type(error).__name__) from error


def open_image(encoded: bytes) -> Image.Image:
  """Reads an image of any mode as a viewer shows it, its pixels too; inside of `refusing`.

  It is turned as its EXIF data says. A PNG's checksums are verified, so what is read is what was written; other formats have none.

  Raises:
    BadImage or anything else: the bytes are no image, not a whole one, several in one file, or have more than
      `MAX_PIXELS` pixels or `MAX_SIDE` a side (a small file that fills the memory), which is known before decoding.
  """
  image = Image.open(io.BytesIO(encoded), formats=FORMATS)
  if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
    limits = f'{MAX_PIXELS:,} in all and {MAX_SIDE:,} a side'
    raise BadImage(f'{image.width} x {image.height} pixels, over the limit of {limits}')
  # JPEGs of telephones have more frames too: a preview, a map of brightness. The first is the photograph.
  frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
  if frames > 1:
    raise BadImage(f'{frames} frames in one file; save each that you want as an image of its own')
  if image.format == 'PNG':
    image.verify()  # reads the checksums, which load() passes over, and closes the image
    image = Image.open(io.BytesIO(encoded), formats=FORMATS)
  image.load()
  if image.format == 'WEBP':
    return _upright(image.copy())  # without the decoder, which holds as much again twice over
  return _upright(_plain_tiff(image) if image.format == 'TIFF' else image)


def _upright(image: Image.Image) -> Image.Image:
  """Returns the image turned as its EXIF data says; damaged EXIF data says nothing."""
  try:
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image
  except (MemoryError, Image.DecompressionBombError):
    raise
  except Exception:  # Pillow's parsers raise anything
    return image


def _plain_tiff(image: Any) -> Image.Image:
  """Returns a grey TIFF with the full range of 16 bits and black as 0, which Pillow leaves as they are stored."""
  if not image.mode.startswith('I;16'):
    return image
  bits = int(image.tag_v2.get(258, (16,))[0])  # BitsPerSample
  values = np.asarray(image).astype(np.uint32)
  values = (values * 65535 + (2**bits - 1) // 2) // (2**bits - 1) if bits < 16 else values
  if image.tag_v2.get(262) == 0:  # PhotometricInterpretation: white is zero
    values = 65535 - values
  plain = Image.fromarray(values.astype(np.uint16))
  plain.info = image.info
  return plain


def decode(
  png_bytes: bytes,
  image_size: int,
  channels: int,
  resize: str = 'stretch',
  *,
  brightness: Brightness | None = None,
) -> UInt8[np.ndarray, 's s c']:
  """Decodes an image and makes it `image_size` x `image_size` with `channels` channels (1: grey, 3: RGB).

  Colour becomes grey by its luminance (ITU-R 601), transparency shows black. 16 bits are scaled to 8 by their full
  range, 65535 to 255 (grey is rounded, of colours Pillow keeps the high byte): what holds 12 bits in 16 comes out
  dark, and is better scaled beforehand.

  Args:
    png_bytes: an encoded image of any size and mode.
    image_size: side of the result, in pixels.
    channels: 1 or 3.
    resize: 'stretch' ignores the aspect ratio, 'pad' keeps it and fills with black, 'crop' keeps it and takes
      the centre. All are anti-aliased (bicubic).
    brightness: counts the image.

  Raises:
    BadImage: see `open_image`.
  """
  with refusing():
    image = open_image(png_bytes)
    wide = _brightest_of_sixteen_bits(image, png_bytes) if brightness else None
    image = _eight_bit(image).convert('L' if channels == 1 else 'RGB')
    if brightness:
      brightness.add(image, wide)
  size = (image_size, image_size)
  width, height = image.size
  if image.size == size:
    pass
  elif resize == 'stretch':
    image = image.resize(size, Image.Resampling.BICUBIC)
  elif resize == 'crop':
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    image = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
  elif resize == 'pad':
    scale = image_size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new(image.mode, size)
    canvas.paste(
      image.resize(inner, Image.Resampling.BICUBIC),
      ((image_size - inner[0]) // 2, (image_size - inner[1]) // 2),
    )
    image = canvas
  else:
    raise ValueError(f'resize is {resize!r}; one of {RESIZES}')
  return np.asarray(image).reshape(image_size, image_size, channels)


def _eight_bit(image: Image.Image) -> Image.Image:
  """Returns the image as opaque 8-bit grey or RGB."""
  if image.mode.startswith(('I', 'F')):
    values = np.asarray(sixteen_bit(image)).astype(np.uint32)
    values[values == image.info.get('transparency')] = 0
    values += 128
    values //= 257
    return Image.fromarray(values.astype(np.uint8))
  if image.has_transparency_data:
    image = image if image.mode == 'RGBA' else image.convert('RGBA')
    return Image.alpha_composite(Image.new('RGBA', image.size, (0, 0, 0, 255)), image).convert('RGB')
  return image if image.mode in ('L', 'RGB') else image.convert('RGB')


def _brightest_of_sixteen_bits(image: Image.Image, encoded: bytes) -> int | None:
  """Returns the brightest value of an image of 16 bits, of 65535; None if it has fewer."""
  if image.mode.startswith('I'):
    return int(np.asarray(image).max())
  if encoded.startswith(b'\x89PNG') and encoded[24] == 16:  # colour, of which Pillow keeps the high byte
    return 257 * int(np.asarray(image.convert('RGB')).max())
  return None


def sixteen_bit(image: Image.Image) -> Image.Image:
  """Returns a grey image of any integers (Pillow's modes `I...`) with 16 bits; BadImage if its values do not fit."""
  if image.mode == 'F':
    raise BadImage('floating-point pixels; save it with 8 or 16 bits')
  values = np.asarray(image)
  if values.min() < 0 or values.max() > 65535:
    raise BadImage(f'grey values from {values.min()} to {values.max()}; save it with 8 or 16 bits')
  return Image.fromarray(values.astype(np.uint16, copy=False))


def decode_all(
  images: Iterable[tuple[str, bytes]],
  out: UInt8[np.ndarray, 'n s s c'],
  *,
  resize: str = 'stretch',
  workers: int = 0,
  what: str = 'Decoding images',
  brightness: Brightness | None = None,
) -> None:
  """Decodes N images into `out`, in order, on `workers` threads (0: one a core), showing progress.

  Memory: at most `MAX_PIXELS` x `BYTES_A_PIXEL` a thread, and the encoded images that wait, four a thread.

  Args:
    images: N pairs (name, encoded bytes), read by one thread and only as far ahead as the workers need.
    out: where the images go, for example a memory-mapped file; its shape gives size and channels.
    resize: see `decode`.
    workers: number of threads.
    what: title of the progress display.
    brightness: counts the images.

  Raises:
    UserError: images are damaged; the error names the first of them.
  """
  workers = workers or _cores()
  _, image_size, _, channels = out.shape

  problems = Problems(what, '; ')

  def write(i: int, name: str, encoded: bytes) -> tuple[str, BadImage] | None:
    try:
      out[i] = decode(encoded, image_size, channels, resize, brightness=brightness)
    except BadImage as error:
      return name, error
    except MemoryError as error:
      raise UserError(
        f'image {name}: not enough memory to decode it; scale it down, free memory, or lower --config.data.num_workers'
      ) from error
    return None

  def finish(future: Any) -> None:
    if damage := future.result():
      name, error = damage
      problems.add(f'image {name} is damaged ({error})', 'replace it or take it out of the data set')

  with (
    Progress(what, len(out), 'images') as progress,
    warnings.catch_warnings(),  # here, since threads must not change filters
    ThreadPoolExecutor(workers) as pool,
  ):
    warnings.filterwarnings(
      'ignore', module=r'PIL\.'
    )  # images that Pillow warns of are refused, or decoded right
    pending: deque[Any] = deque()
    try:
      for i, (name, encoded) in enumerate(images):
        pending.append(pool.submit(write, i, name, encoded))
        if len(pending) >= 4 * workers:
          finish(pending.popleft())
          progress.update(i + 1 - len(pending))
      while pending:
        finish(pending.popleft())
        progress.update(len(out) - len(pending))
    finally:
      for future in pending:
        future.cancel()
  problems.check()


def _cores() -> int:
  """Returns the number of cores that this process may use; in a container or a batch job there may be more."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def open_source(builder: Any, split: str = 'all') -> Any:
  """Opens the examples of a prepared TFDS builder: a sequence with random access, images as encoded bytes."""
  import tensorflow_datasets as tfds

  return builder.as_data_source(split=split, decoders={'image': tfds.decode.SkipDecoding()})


def examples(source: Any) -> Iterator[dict[str, Any]]:
  """Yields all examples of `open_source`, in order, reading `RECORDS_A_READ` at a time."""
  for start in range(0, len(source), RECORDS_A_READ):
    yield from source.__getitems__(list(range(start, min(start + RECORDS_A_READ, len(source)))))
