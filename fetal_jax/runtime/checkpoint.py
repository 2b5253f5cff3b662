"""Checkpoints: orbax, asynchronous, the last N kept, with everything that a resumed run needs inside.

Each holds the checksums of its files, written before it gets its name. A damaged one is set aside, and training
resumes from the one before.
"""

import contextlib
import pathlib
import re
import shutil
from typing import Any

import jax
import msgspec
import orbax.checkpoint as ocp
from absl import logging

from fetal_jax.runtime import hosts, records, signals
from fetal_jax.runtime.errors import DamagedFile, UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.runtime.fingerprint import Fingerprint

SKIP = ocp.PLACEHOLDER  # stands in `restore` for an array that is not wanted
CHECKSUMS = 'checksums.json'
DAMAGED = 'damaged'  # the folder of checkpoints that cannot be used, kept to be looked at
_OWN = re.compile(rf'\d+|\d+{re.escape(ocp.utils.TMP_DIR_SUFFIX)}.*|{DAMAGED}')
# Orbax writes these when a checkpoint gets its name, and reads a checkpoint without them.
_UNCHECKED = ('_CHECKPOINT_METADATA', 'commit_success.txt')


class Checkpointer:
  """Saves and restores (state, meta) by step.

  `meta` is JSON: the config, the loader's position, the history; so a checkpoint explains itself.

  Opening a folder to write to it compares its newest checkpoint with the checksums. A damaged one moves to `damaged/`,
  and a line says what is wrong and from where training resumes. Checksums cost 0.3 s of a core for 500 MB: when saving
  in the thread that writes, which takes many times as long, when opening before anything else.

  Args:
    directory: where; made if absent.
    keep: how many to keep, the newest ones; None keeps all.
    alone: this process reads without the others, onto its own devices; the directory must exist. Nothing is moved,
      and a damaged checkpoint is refused.
    remedy: what the user can do if no whole checkpoint is left to read.

  Raises:
    UserError: a damaged checkpoint cannot be moved.
  """

  def __init__(
    self,
    directory: PathLike,
    *,
    keep: int | None = 2,
    alone: bool = False,
    remedy: str = 'put a whole copy back, or delete this folder to start from the beginning',
  ) -> None:
    self.directory = pathlib.Path(directory).absolute()
    self._remedy = remedy
    processes = ocp.options.MultiprocessingOptions()
    if alone:
      me = jax.process_index()
      _check_metadata(self.directory, remedy)
      processes = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'process_{me}'
      )
    else:
      # Before orbax lists the folder: it saves no step before the newest one that it has seen.
      hosts.on_one_host(_set_damaged_aside, self.directory)
      _check_metadata(self.directory, 'delete this one: a newer one is whole')
    self._manager = ocp.CheckpointManager(
      self.directory,
      item_handlers={
        'state': ocp.PyTreeCheckpointHandler(multiprocessing_options=processes),
        'meta': ocp.JsonCheckpointHandler(multiprocessing_options=processes),
      },
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=not alone,
        multiprocessing_options=processes,
        async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
      ),
    )
    newest = self._manager.latest_step()
    self._whole = {newest} if newest is not None and not alone else set()
    self._saving = -1  # the step that orbax's thread writes

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Starts writing; returns as soon as `state` has been copied off the device."""
    if step in self._manager.all_steps():
      return
    self._manager.wait_until_finished()
    self._saving = step
    self._manager.save(
      step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
    )

  def _write_checksums(self) -> None:
    """Called in orbax's thread of the first process, when all files are written and the checkpoint has no name yet."""
    folder = self.directory / f'{self._saving}{ocp.utils.TMP_DIR_SUFFIX}'
    records.write(
      folder / CHECKSUMS, {name: Fingerprint.of(folder / name) for name in _checked_files(folder)}
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest whole checkpoint; an unfinished one does not count.

    Raises:
      UserError: there were checkpoints, and none is whole.
    """
    step = self._manager.latest_step()
    if step is None and any((self.directory / DAMAGED).glob('*')):
      raise UserError(
        f'{self.directory}: no whole checkpoint is left, the damaged ones are in {DAMAGED}/; {self._remedy}'
      )
    return step

  def restore_meta(self, step: int) -> dict[str, Any]:
    """Reads the JSON part alone.

    Raises:
      UserError: it is damaged.
    """
    self._check_whole(step, 'meta/')
    return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads the checkpoint of `step`.

    Args:
      step: an existing step.
      like: a pytree of arrays, or of `jax.ShapeDtypeStruct` with shardings, that says what to make; a leaf that is
        `SKIP` is not read and stays `SKIP`.

    Returns:
      (state, meta).

    Raises:
      UserError: the checkpoint is of other networks (the first array that differs is named), or is damaged.
    """
    self._check_whole(step)
    self._check_shapes(step, like)
    abstract = jax.tree.map(
      lambda leaf: leaf if leaf is SKIP else ocp.utils.to_shape_dtype_struct(leaf), like
    )
    restore = ocp.args.PyTreeRestore(abstract, ocp.checkpoint_utils.construct_restore_args(abstract))
    restored = self._manager.restore(
      step, args=ocp.args.Composite(state=restore, meta=ocp.args.JsonRestore())
    )
    return restored['state'], restored['meta']

  def _check_shapes(self, step: int, like: Any) -> None:
    """Compares shapes before anything is read: orbax would leave the reads that it has started unfinished."""
    stored = _shapes(self._manager.item_metadata(step)['state'].tree)
    wanted = _shapes(like)
    for name in sorted(stored.keys() | wanted.keys()):
      if wanted.get(name) is not SKIP and stored.get(name) != wanted.get(name):
        raise UserError(
          f'{self.directory / str(step)}: not a checkpoint of the configured networks: {name} is '
          f'{stored.get(name, "absent")} there and {wanted.get(name, "absent")} in the config; restore the config '
          'it was trained with, or use a new --workdir'
        )

  def _check_whole(self, step: int, part: str = '') -> None:
    """Refuses a checkpoint with a file that is not as it was written."""
    if step not in self._whole:
      if damage := find_damage(self.directory / str(step), part):
        raise UserError(f'{self.directory / str(step)}: damaged ({damage}); {self._remedy}')
      if not part:
        self._whole.add(step)

  def check(self) -> None:
    """Raises the error of a checkpoint that could not be written, if there is one by now."""
    self._manager.check_for_errors()

  def wait(self) -> None:
    """Blocks until everything saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for everything saved, then ends the threads; a signal to stop is deferred until then."""
    with signals.deferred(), contextlib.closing(self._manager):
      self._manager.wait_until_finished()

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def find_damage(checkpoint: pathlib.Path, part: str = '') -> str | None:
  """Returns the first file of a checkpoint that is not as it was written, and what is wrong with it; None if none is.

  A file without a checksum is damage as well: else an empty list of checksums would switch the check off.

  Args:
    checkpoint: its folder.
    part: only files whose path within the checkpoint begins with this.
  """
  if damage := _metadata_damage(checkpoint):
    return damage
  try:
    recorded = records.read(checkpoint / CHECKSUMS, dict[str, Fingerprint])
  except FileNotFoundError:
    return f'{CHECKSUMS} is missing'
  except (DamagedFile, OSError):
    return f'{CHECKSUMS} is not what was written'
  present = set(_checked_files(checkpoint))
  for name in sorted(recorded.keys() | present):
    if not name.startswith(part):
      continue
    if name not in present:  # so that a path out of the checkpoint is never opened
      return f'{name} is missing'
    if name not in recorded:
      return f'{name} is not in {CHECKSUMS}'
    if damage := recorded[name].damage(checkpoint / name):
      return f'{name} {damage}'
  return None


class _Metadata(msgspec.Struct):
  """The types of `_CHECKPOINT_METADATA`, which orbax reads for every checkpoint as soon as it opens their folder."""

  item_handlers: dict[str, str] | str | None = None
  metrics: dict[str, Any] | None = None
  performance_metrics: dict[str, float] | None = None
  init_timestamp_nsecs: int | None = None
  commit_timestamp_nsecs: int | None = None
  custom_metadata: dict[str, Any] | None = None


def _metadata_damage(checkpoint: pathlib.Path) -> str | None:
  """Returns what is wrong with a checkpoint's `_CHECKPOINT_METADATA`; None if nothing is, or orbax passes it over."""
  try:
    msgspec.json.decode((checkpoint / _UNCHECKED[0]).read_bytes(), type=_Metadata)
  except (msgspec.ValidationError, RecursionError):
    return f'{_UNCHECKED[0]} is not what was written'
  except (OSError, ValueError):  # missing, or no JSON
    return None
  return None


def _check_metadata(directory: pathlib.Path, remedy: str) -> None:
  """Refuses a folder with a checkpoint that orbax could not list."""
  for path in directory.glob('*'):
    if path.name.isdecimal() and (damage := _metadata_damage(path)):
      raise UserError(f'{path}: damaged ({damage}); {remedy}')


def _checked_files(checkpoint: pathlib.Path) -> list[str]:
  """Returns the paths, within a checkpoint, of all files that have a checksum; hidden ones are not orbax's."""
  paths = (path.relative_to(checkpoint) for path in checkpoint.rglob('*') if path.is_file())
  return sorted(
    path.as_posix()
    for path in paths
    if path.name not in (CHECKSUMS, *_UNCHECKED) and not any(part.startswith('.') for part in path.parts)
  )


def remove(directory: pathlib.Path) -> None:
  """Deletes all checkpoints of a folder, whole, unfinished or damaged, and the folder if nothing else is in it."""
  if directory.is_symlink() or not directory.is_dir():
    return
  for path in directory.iterdir():
    if _OWN.fullmatch(path.name) and not path.is_symlink():
      shutil.rmtree(path, ignore_errors=True)
  with contextlib.suppress(OSError):
    directory.rmdir()


def _set_damaged_aside(directory: pathlib.Path) -> None:
  """Moves damaged checkpoints to `damaged/`, from the newest to the first whole one, with a line for each."""
  steps = sorted((int(path.name) for path in directory.glob('*') if path.name.isdecimal()), reverse=True)
  lost: list[tuple[int, str]] = []
  for step in steps:
    if (damage := find_damage(directory / str(step))) is None:
      break
    lost.append((step, damage))
  rest = steps[len(lost) :]
  for step, damage in lost:
    source = directory / str(step)
    target, number = directory / DAMAGED / str(step), 1
    while target.exists():  # this step was damaged before, and taken again
      number += 1
      target = target.with_name(f'{step}_{number}')
    try:
      target.parent.mkdir(exist_ok=True)
      source.rename(target)
    except OSError as error:
      raise UserError(
        f'{source}: damaged ({damage}), and cannot be moved to {DAMAGED}/ ({error.strerror}); move or delete it'
      ) from error
    if rest:
      again = step - rest[0]
      then = f'resuming from step {rest[0]}, {again} step{"s are" if again > 1 else " is"} taken again'
    else:
      then = 'no whole one is left'
    logging.warning('%s: damaged (%s), moved to %s; %s.', source, damage, target, then)


def _shapes(tree: Any) -> dict[str, Any]:
  """Returns shapes (or SKIP) by name, such as `params.unet.conv.kernel`, alike for dataclasses, dicts and sequences."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)

  def part(key: Any) -> str:
    return str(next(getattr(key, field) for field in ('key', 'idx', 'name') if hasattr(key, field)))

  return {'.'.join(map(part, path)): leaf if leaf is SKIP else tuple(leaf.shape) for path, leaf in leaves}


def log_resumption(what: str, step: int, steps: int) -> None:
  """Logs from where a run resumes."""
  logging.info('%s: resuming from the checkpoint at step %d of %d.', what, step, steps)
