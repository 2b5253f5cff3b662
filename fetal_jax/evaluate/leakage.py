"""The check for leakage: everything was trained on the training side of one split, and who is on both of its sides."""

from collections.abc import Sequence

from fetal_jax.data import prepared, splits
from fetal_jax.data.rounds import Round
from fetal_jax.evaluate.judge import Judge
from fetal_jax.evaluate.results import Leakage
from fetal_jax.runtime.errors import UserError


def check_split(split_hash: str, trained_on: str | None, what: str) -> None:
  """Refuses to judge with, or to judge, what was trained on another split: it may have seen the test side.

  Args:
    split_hash: of the prepared data.
    trained_on: hash of the split whose training side `what` has seen; None where it has seen none of the data.
    what: for the message.

  Raises:
    UserError: the splits differ.
  """
  if trained_on is not None and trained_on != split_hash:
    raise UserError(
      f'{what} was trained on split {trained_on[:12]}, the prepared data has split {split_hash[:12]}: it may have seen '
      'test images; train it in this workdir'
    )


def check(data: prepared.Prepared, rounds: Sequence[Round], judge: Judge) -> Leakage:
  """Refuses a generator or a judge of another split; says who is on both sides of this one.

  Raises:
    UserError: a split hash differs, classes do, or a known patient is on both sides of a split that keeps patients apart.
  """
  split_hash, split = data.info.split_hash, data.info.split
  for one in rounds:
    generator = one.manifest.checkpoint
    check_split(split_hash, generator.split_hash, f'the generator of round {one.number}')
    if tuple(one.manifest.class_names) != tuple(data.records.class_names):
      raise UserError(f'round {one.number}: its classes are not those of the data; use a new --workdir')
  check_split(split_hash, judge.split_hash, f'the judge {judge.model}')
  crossing = splits.on_both_sides(data.records, data.split)
  if split != 'paper' and crossing:
    raise UserError(
      f'split {split}: {len(crossing)} patients are on both sides, which it promises not to '
      'happen; delete the data folder of the workdir and prepare again'
    )
  overlap = splits.describe(data.records, data.split)
  return Leakage(
    split=split,
    split_hash=split_hash,
    trained_on='the training side of this split alone: UNet, guide, and the judging classifier',
    shared_patients=overlap.shared_patients,
    test_patient_overlap=overlap.test_patient_overlap,
  )
