"""The end of a command: its exit code, and one line on stderr if it did not end well.

0: done. 2: something the user can mend, any error of the operating system among it. 130, 143: asked to stop by ctrl-C or a signal. Anything else is a fault of
this project, and ends in Python's traceback with exit code 1.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator

from fetal_jax.runtime import signals
from fetal_jax.runtime.errors import UserError

# Errors of a disk that a user can mend, after which a run goes on: what is wrong, and what to do about it.
_REFUSALS = {
  errno.ENOSPC: ('the disk is full', 'make room'),
  errno.EDQUOT: ('your quota of disk space is used up', 'make room'),
  errno.EFBIG: ('the largest size of a file is reached', 'raise the limit (ulimit -f) or use another disk'),
  errno.EROFS: ('the file system is read-only', 'make it writable'),
  errno.EACCES: ('permission denied', 'make it readable and writable for you'),
  errno.EPERM: ('operation not permitted', 'make it readable and writable for you'),
  errno.EIO: ('the disk does not answer as it should', 'look after it'),
  errno.ESTALE: ('the network file system has lost the file', 'mount it again'),
  errno.EMFILE: ('too many files are open', 'raise the limit (ulimit -n)'),
  errno.ENFILE: ('too many files are open on this machine', 'close other programs'),
}
# All others of the system are about what was asked for: the path is wrong, or something lies in its way.
_OTHERS = {
  errno.ENOENT: ('it is missing', 'put it back, or give another path'),
  errno.ENOTDIR: ('it lies under a file, or is one, where a folder is needed', 'give another path'),
  errno.EISDIR: ('a folder lies where a file is needed', 'move it away, or give another path'),
  errno.EEXIST: ('a file of this name is there already', 'move it away, or give another path'),
  errno.ENOTEMPTY: ('the folder is not empty', 'move away what is in it'),
  errno.ENAMETOOLONG: ('the name is too long', 'give a shorter one'),
  errno.ELOOP: ('its symbolic links lead in a circle', 'mend them, or give another path'),
  errno.EPIPE: ('nobody reads it any more', 'let the program that reads it run to its end'),
  errno.ENOMEM: ('there is not enough memory', 'close other programs, or use a machine with more'),
}


def exit_code(command: Callable[[], None], *, then: str, place: Callable[[], object] = str) -> int:
  """Runs `command` with signals handled; prints one line to stderr if it did not end well.

  Args:
    command: does everything.
    then: ends the line of a run that was stopped or found no room, such as `run the same command again to resume`.
    place: returns what to name where an error of the disk names no file.

  Returns:
    The exit code, see above.
  """
  alone = False
  with contextlib.suppress(AttributeError, OSError, ValueError):  # what a notebook or a test has in its place
    sys.stdout.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]
  try:
    with signals.handled():
      command()
      sys.stdout.flush()  # a closed pipe shows here, not when Python ends
    return 0
  except UserError as error:
    line, code = str(error), 2
  except signals.Stopped as stopped:
    line, code = f'stopped{stopped.where and ": " + stopped.where}; {then}', stopped.code
    alone = not stopped.together and _is_one_of_many()
  except KeyboardInterrupt:
    line, code = f'stopped; {then}', 130
  except Exception as error:
    refusal = refused_by_disk(error, place)
    refusal = f'{refusal}; {then}' if refusal else refused_by_system(error, place)
    if refusal is None:
      raise
    line, code = refusal, 2
    if isinstance(error, BrokenPipeError):
      _forget_output()
  line = ''.join(character if character.isprintable() else ascii(character)[1:-1] for character in line)
  with contextlib.suppress(OSError):  # stderr may be a file on the same disk
    print(f'fetal_jax: {line}', file=sys.stderr, flush=True)
  if alone:  # an orderly exit would wait for the other processes, which wait for this one elsewhere
    os._exit(code)
  return code


def _forget_output() -> None:
  """Sends what is left for a closed standard output to nowhere: Python would try to write it again when it ends."""
  with contextlib.suppress(OSError, ValueError):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_one_of_many() -> bool:
  """Returns whether this process has joined others; does not load JAX."""
  distributed = getattr(sys.modules.get('jax'), 'distributed', None)
  return distributed is not None and distributed.is_initialized()


def refused_by_disk(error: BaseException, place: Callable[[], object] = str) -> str | None:
  """Returns `path: what is wrong: what to do` if `error` comes from a full, closed or broken disk; else None.

  Libraries wrap errors of the system in exceptions of their own, so all exceptions that led to `error` are searched, by
  number and by the system's words in their texts.
  """
  found = [
    (number, path) for cause in _chain(error) for number, path in [_read(cause)] if number in _REFUSALS
  ]
  if not found:
    return None
  number = found[0][0]
  what, remedy = _REFUSALS[number]
  path = next((path for other, path in found if other == number and path), None)
  return f'{path or place()}: {what}: {remedy}'


def refused_by_system(error: BaseException, place: Callable[[], object] = str) -> str | None:
  """Returns `path: what is wrong: what to do` for any error of the system, and for text that it cannot take; else None.

  Only `error` and what it was raised from count: a fault of ours while such an error is handled is none of the system.
  """
  for cause in _causes(error):
    if isinstance(cause, UnicodeEncodeError) and cause.reason == 'surrogates not allowed':
      return f'{cause.object!a}: these bytes are no UTF-8 text: give another name'
    if isinstance(cause, ValueError) and 'embedded null' in str(cause):
      return f'{place()}: a name has a NUL in it: give another name'
    if isinstance(cause, MemoryError):
      cause = OSError(errno.ENOMEM, '')
    if isinstance(cause, OSError) and isinstance(cause.errno, int):
      number, path = _read(cause)
      what, remedy = _OTHERS.get(number or 0, (cause.strerror or type(cause).__name__, 'mend it'))
      return f'{path or ("standard output" if number == errno.EPIPE else place())}: {what}: {remedy}'
  return None


def _causes(error: BaseException) -> Iterator[BaseException]:
  """Yields the error, what it was raised from, and the members of groups."""
  yield error
  for cause in (error.__cause__, *(error.exceptions if isinstance(error, BaseExceptionGroup) else ())):
    if cause is not None:
      yield from _causes(cause)


def _read(error: BaseException) -> tuple[int | None, str]:
  """Returns the system's number of an error and the file that it names; None and empty where unknown."""
  if isinstance(error, OSError):
    path = error.filename
    return error.errno, os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ''
  if isinstance(error, ValueError | RuntimeError):
    quoted = re.findall(r'"(/[^"]+)"', str(error))
    return next((n for n in _REFUSALS if os.strerror(n) in str(error)), None), quoted[-1] if quoted else ''
  return None, ''


def _chain(error: BaseException) -> Iterator[BaseException]:
  """Yields the error, its causes, their causes, and the members of groups."""
  todo, seen = [error], set()
  while todo:
    one = todo.pop(0)
    if id(one) in seen:
      continue
    seen.add(id(one))
    yield one
    members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
    todo += [e for e in (one.__cause__, one.__context__, *members) if e is not None]
