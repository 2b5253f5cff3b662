"""Checkpoints: orbax, asynchronous, the last N kept, with everything that a resumed run needs inside."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from fetal_jax.errors import UserError
from fetal_jax.files import PathLike

SKIP = ocp.PLACEHOLDER  # stands in `restore` for an array that is not wanted


class Checkpointer:
  """Saves and restores (state, meta) by step.

  `meta` is JSON: the config, the loader's position, the history; so a checkpoint explains itself.

  Args:
    directory: where; made if absent.
    keep: how many to keep, the newest ones; None keeps all.
    alone: this process reads without the others, onto its own devices; the directory must exist.
  """

  def __init__(self, directory: PathLike, *, keep: int | None = 2, alone: bool = False) -> None:
    self.directory = pathlib.Path(directory).absolute()
    processes = ocp.options.MultiprocessingOptions()
    if alone:
      me = jax.process_index()
      processes = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'process_{me}'
      )
    self._manager = ocp.CheckpointManager(
      self.directory,
      item_handlers={
        'state': ocp.PyTreeCheckpointHandler(multiprocessing_options=processes),
        'meta': ocp.JsonCheckpointHandler(multiprocessing_options=processes),
      },
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=not alone, multiprocessing_options=processes
      ),
    )

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Starts writing; returns as soon as `state` has been copied off the device."""
    if step in self._manager.all_steps():
      return
    self._manager.save(
      step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
    )

  def latest_step(self) -> int | None:
    """The newest whole checkpoint's step; an unfinished one does not count."""
    return self._manager.latest_step()

  def restore_meta(self, step: int) -> dict[str, Any]:
    """The JSON part alone."""
    return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))['meta']

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads the checkpoint of `step`.

    Args:
      step: an existing step.
      like: a pytree of arrays, or of `jax.ShapeDtypeStruct` with shardings, that says what to make; what is
        `SKIP` in it is not read and stays as it is.

    Returns:
      (state, meta).

    Raises:
      UserError: the checkpoint is of other networks (names the first array that differs), or is damaged.
    """
    self._check_shapes(step, like)
    abstract = jax.tree.map(
      lambda leaf: leaf if leaf is SKIP else ocp.utils.to_shape_dtype_struct(leaf), like
    )
    restore = ocp.args.PyTreeRestore(abstract, ocp.checkpoint_utils.construct_restore_args(abstract))
    try:
      restored = self._manager.restore(
        step, args=ocp.args.Composite(state=restore, meta=ocp.args.JsonRestore())
      )
    except (ValueError, KeyError, TypeError, OSError) as error:
      raise UserError(
        f'{self.directory / str(step)}: this checkpoint cannot be read ({" ".join(str(error).split())[:200]}); '
        'delete the folder to go on from the one before'
      ) from error
    return restored['state'], restored['meta']

  def _check_shapes(self, step: int, like: Any) -> None:
    """Compares shapes before anything is read: half-started reads of a misfit would be left hanging."""
    stored = _shapes(self._manager.item_metadata(step)['state'].tree)
    wanted = _shapes(like)
    for name in sorted(stored.keys() | wanted.keys()):
      if wanted.get(name) is not SKIP and stored.get(name) != wanted.get(name):
        raise UserError(
          f'{self.directory / str(step)}: not a checkpoint of the configured networks: {name} is '
          f'{stored.get(name, "absent")} there and {wanted.get(name, "absent")} in the config; restore the config '
          'it was trained with, or use a new --workdir'
        )

  def wait(self) -> None:
    """Blocks until everything saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then lets the threads go."""
    self._manager.wait_until_finished()
    self._manager.close()

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def _shapes(tree: Any) -> dict[str, Any]:
  """'params.unet.conv.kernel' -> shape or SKIP; dataclasses, dicts and sequences name their parts alike."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)

  def part(key: Any) -> str:
    return str(next(getattr(key, field) for field in ('key', 'idx', 'name') if hasattr(key, field)))

  return {'.'.join(map(part, path)): leaf if leaf is SKIP else tuple(leaf.shape) for path, leaf in leaves}


def log_resumption(what: str, step: int, steps: int) -> None:
  """Says where a run goes on."""
  logging.info('%s: going on from the checkpoint at step %d of %d.', what, step, steps)
