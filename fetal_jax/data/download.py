"""Fetches one published file: with progress, under a temporary name, its checksum verified."""

import hashlib
import http.client
import pathlib
import urllib.request

from absl import logging

from fetal_jax import files
from fetal_jax.errors import UserError
from fetal_jax.progress import Progress

CHUNK = 1 << 20
MEGABYTE = 1_000_000
TIMEOUT_SECONDS = 60.0


def fetch(url: str, path: files.PathLike, *, md5: str) -> pathlib.Path:
  """Downloads `url` to `path`, unless it is there already, and returns the path.

  The file grows as `<path>.part` and takes its name once its MD5 is right, so a file under its name is whole.
  Proxies are taken from the environment (`https_proxy` and so on).

  Raises:
    UserError: the network fails, the disk is full, or what came is not the published file.
  """
  path = pathlib.Path(path)
  if path.exists():
    logging.info('Using %s, downloaded earlier', path)
    return path
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'{path.name}.part')
  logging.info('Downloading %s to %s', url, path)
  by_hand = 'run it again, or download the file by hand and set --config.data.path to it'
  try:
    found = _copy(url, part)
    if found != md5:
      raise UserError(f'{url}: what came has MD5 {found}, not the published {md5}; {by_hand}')
    part.replace(path)
  except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
    reason = str(error) or type(error).__name__
    raise UserError(f'{url}: download to {part} failed ({reason}); {by_hand}') from error
  finally:
    part.unlink(missing_ok=True)
  return path


def _copy(url: str, part: pathlib.Path) -> str:
  """Writes what `url` serves into `part`; returns its MD5."""
  digest = hashlib.md5(usedforsecurity=False)
  with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response, open(part, 'wb') as f:
    total = int(response.headers.get('Content-Length') or 0)
    done = 0
    with Progress(f'Downloading {part.stem}', total // MEGABYTE, 'MB') as progress:
      while chunk := response.read(CHUNK):
        f.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        progress.update(done // MEGABYTE)
    if total and done != total:
      raise http.client.IncompleteRead(b'', total - done)
  return digest.hexdigest()
