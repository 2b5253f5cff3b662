"""Downloads one published file over an unreliable network: resumed, retried, its size and checksum verified."""

import contextlib
import fcntl
import hashlib
import http.client
import math
import os
import pathlib
import random
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging

from fetal_jax.runtime import files
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress
from fetal_jax.runtime.units import duration

CHUNK = 1 << 18  # bytes
MEGABYTE = 1_000_000
TIMEOUT_SECONDS = 60.0  # without a byte
ATTEMPTS = 8  # in a row that bring nothing new, over about a minute and a half
LONGEST_PAUSE_SECONDS = 60.0
BUSY = (408, 425, 429, 500, 502, 503, 504)  # statuses of a server that may answer later
BY_HAND = 'run it again, or download the file by hand and set --config.data.path to it'


def fetch(
  url: str,
  path: files.PathLike,
  *,
  md5: str,
  size: int | None = None,
  sleep: Callable[[float], None] = time.sleep,
) -> pathlib.Path:
  """Downloads `url` to `path`, unless it is there already, and returns the path.

  The file grows as `<path>.part` and takes its name once its MD5 is right, so a file under its name is whole. What
  a broken transfer has brought stays; the next attempt, or the next run, resumes there if the server's file is
  still the same (by its ETag or date, kept in `<path>.part.tag`, without which it is not ours). Proxies are taken from the environment
  (`https_proxy` and so on).

  Args:
    url: of the file.
    path: where it goes.
    md5: of the published file.
    size: of the published file in bytes, if known.
    sleep: waits a number of seconds between two attempts.

  Raises:
    UserError: the network fails again and again, the disk is full, what comes is not the published file, or something of
      another origin has the name of what is kept.
  """
  path = pathlib.Path(path)
  if path.exists():
    if _md5(path) == md5:
      logging.info('Using %s, downloaded earlier', path)
      return path
    logging.warning('%s is not the published file: downloading it again', path)
  part, tag = path.with_name(f'{path.name}.part'), path.with_name(f'{path.name}.part.tag')
  with _on_disk(part):
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = files.open_own(part, 'ab', buffering=0)
  with opened as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UserError(f'{part}: another run is downloading it; run it again when that is done') from error
    except OSError:  # a file system that has no locks
      pass
    if _length(f) and not tag.is_file():
      raise UserError(f'{part}: is there, and is no download of this command; move it away')
    logging.info('Downloading %s to %s', url, path)
    try:
      _fill(url, f, tag, size, sleep)
    finally:
      if not _length(f):
        part.unlink()
        tag.unlink(missing_ok=True)
    with _on_disk(part):
      os.fsync(f.fileno())
    found = _md5(part)
    if found != md5:
      part.unlink()
      tag.unlink(missing_ok=True)
      raise UserError(f'{url}: what came has MD5 {found}, not the published {md5}, and is deleted; {BY_HAND}')
    part.replace(path)
    tag.unlink(missing_ok=True)  # only now: it says that what is there is ours
  return path


def _fill(url: str, f: Any, tag: pathlib.Path, size: int | None, sleep: Callable[[float], None]) -> None:
  """Transfers until `f` is complete, again and again as long as something comes."""
  opener = urllib.request.build_opener()  # the default one keeps the proxies of its first use
  failures, furthest = 0, _length(f)
  while True:
    pause = 0.0
    try:
      return _transfer(opener, url, f, tag, size)
    # URLError and time-outs are OSErrors; ValueErrors come from a header, such as where to go instead.
    except (OSError, http.client.HTTPException, ValueError) as error:
      reason = ' '.join(str(error).split()) or type(error).__name__
      if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code not in BUSY:
          raise UserError(f'{url}: download failed ({reason}); {BY_HAND}') from error
        pause = _seconds(error.headers['Retry-After'])
      failures = 0 if _length(f) > furthest else failures + 1
      furthest = max(furthest, _length(f))
      if failures == ATTEMPTS:
        kept = f'{_length(f):,} bytes are kept in {f.name}'
        raise UserError(f'{url}: download failed ({reason}), {failures} times; {kept}: {BY_HAND}') from error
    # With jitter, so that all who lost the same server do not come back at once.
    pause = max(pause, min(2.0 ** (failures - 1), LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1))
    logging.warning(
      'Download broke off at %s bytes (%s); resumes in %s', f'{_length(f):,}', reason, duration(pause)
    )
    sleep(pause)


def _transfer(
  opener: urllib.request.OpenerDirector, url: str, f: Any, tag: pathlib.Path, size: int | None
) -> None:
  """Asks for what `f` lacks, and appends it.

  Raises:
    OSError, HTTPException, ValueError: the transfer broke off.
    UserError: the server's file has another size, or the disk is full.
  """
  request = urllib.request.Request(url)
  done = _length(f)
  if done and done == size:
    return
  if done:
    request.add_header('Range', f'bytes={done}-')
    if validator := _validator(tag.read_text(errors='replace') if tag.is_file() else ''):
      request.add_header('If-Range', validator)  # the whole file comes if it is another by now
  try:
    response = opener.open(request, timeout=TIMEOUT_SECONDS)
  except urllib.error.HTTPError as error:
    if error.code != 416:
      raise
    with error:  # there is nothing after what `f` has: it is all, or no part of the server's file
      if error.headers['Content-Range'] == f'bytes */{done}' and size is None:
        return
    _empty(f)
    raise http.client.HTTPException(f'the server has nothing from byte {done:,}, starting over') from error
  with response:
    total = response.length  # of what comes; None if the server does not say
    if response.status == 206:
      served = re.fullmatch(r'bytes (\d{1,18})-\d{1,18}/(\d{1,18})', response.headers['Content-Range'] or '')
      if not served or int(served[1]) != done:
        _empty(f)
        raise http.client.HTTPException('the server sent another part than was asked for, starting over')
      total = int(served[2])
    else:
      if done:
        _empty(f)
        done = 0
      with _on_disk(tag):
        files.write_text(
          tag, _validator(response.headers['ETag']) or _validator(response.headers['Last-Modified'])
        )
    if size is not None and total not in (None, size):
      raise UserError(f'{url}: the server has {total:,} bytes where {size:,} are published; {BY_HAND}')
    total = total or size or 0
    free = shutil.disk_usage(tag.parent).free
    if total - done > free:
      raise UserError(f'{tag.parent}: {total - done:,} bytes are to come, {free:,} are free; make room')
    with Progress(f'Downloading {tag.name.removesuffix(".part.tag")}', total // MEGABYTE, 'MB',
                  done=done // MEGABYTE, log_seconds=5.0) as progress:  # fmt: skip
      while done < total or not total:
        # read1() gives what is there; read() waits for the rest, and loses what is there if it never comes.
        chunk = response.read1(CHUNK)
        if not chunk:
          break
        _append(f, chunk)
        done += len(chunk)
        if total:
          progress.update(done // MEGABYTE)
    if done < total:
      raise http.client.HTTPException(f'the connection ended, {total - done:,} bytes are missing')


def _seconds(header: str | None) -> float:
  """Returns the seconds that a server asks to wait, ten minutes at most; 0 where it says nothing, or a date."""
  try:
    asked = float(header or 0)
  except ValueError:
    return 0.0
  return 0.0 if math.isnan(asked) else min(max(asked, 0.0), 10 * LONGEST_PAUSE_SECONDS)


def _validator(header: str | None) -> str:
  """Returns the text of an ETag or a date, if it can be given back in If-Range; else ''."""
  return header if header and re.fullmatch(r'[ -~]{1,200}', header) and not header.startswith('W/') else ''


def _append(f: Any, chunk: bytes) -> None:
  with _on_disk(f.name):
    rest = memoryview(chunk)
    while rest:
      rest = rest[f.write(rest) :]


def _empty(f: Any) -> None:
  with _on_disk(f.name):
    f.truncate(0)


def _length(f: Any) -> int:
  return os.fstat(f.fileno()).st_size


@contextlib.contextmanager
def _on_disk(path: files.PathLike) -> Iterator[None]:
  """Makes errors of the disk UserErrors, so that they are not taken for those of the network, which are tried again."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f'{path}: cannot be written ({error.strerror}); make room or give permission, then run it again'
    ) from error


def _md5(path: pathlib.Path) -> str:
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
