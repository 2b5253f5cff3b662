"""Images of any format as the PNGs that a source hands on."""

import io
import warnings

from PIL import Image

from fetal_jax.data import decode

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.gif', '.webp')
_PNG_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16', 'I;16B')


def as_png(content: bytes) -> bytes:
  """Returns an image as PNG bytes: a PNG's own, else its pixels as a viewer shows them, encoded anew.

  Raises:
    BadImage: the bytes are no image, or not a whole one; a PNG is looked at only when it is decoded.
  """
  if content.startswith(b'\x89PNG'):
    return content
  with warnings.catch_warnings(), decode.refusing():
    warnings.filterwarnings('ignore', module=r'PIL\.')  # see decode_all
    image = decode.open_image(content)
    encoded = io.BytesIO()
    _for_png(image).save(encoded, 'PNG')
  return encoded.getvalue()


def _for_png(image: Image.Image) -> Image.Image:
  """Returns the image in a mode that PNG has, with its 16 bits and its transparency."""
  if image.mode in _PNG_MODES:
    return image
  if image.mode in ('I', 'F'):
    return decode.sixteen_bit(image)
  return image.convert('RGBA' if image.has_transparency_data else 'RGB')


def check(content: bytes) -> None:
  """Raises BadImage where `decode` would."""
  with warnings.catch_warnings(), decode.refusing():
    warnings.filterwarnings('ignore', module=r'PIL\.')
    decode.open_image(content)
