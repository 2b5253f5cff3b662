"""The filter stage: keep the synthetic images that show what was asked of them, and train on those alone.

Who judges is independent of the generator and its guide: a classifier that has seen real training images only.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import logging
from jaxtyping import Float, Int, UInt8

from fetal_jax import config as config_lib
from fetal_jax.data import prepare
from fetal_jax.data.grid import grid
from fetal_jax.evaluate import judge as judges
from fetal_jax.evaluate.stage import check_leakage, finished_rounds, load_rounds
from fetal_jax.runtime import files, hosts
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.train import classify, regimes, synthetic_sets
from fetal_jax.train import kept as kept_lib
from fetal_jax.train.kept import Kept, KeptRound, Rule

_COLUMNS = 10  # of the pictures


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Chooses images of all finished rounds, then trains the regimes on them; without such a regime it does nothing.

  Leaves `synthetic/kept.json` (the judge, the rule, and by round what was asked for, judged right and kept) with
  `kept.png` and `dropped.png` beside it, and the runs of those regimes as the classify stage does.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: there is no judge yet, it or the generator has seen another split, or nothing is kept.
  """
  names = [name for model in config.classify.models for name in regimes.of_model(config.classify, model)]
  if not any(regimes.synthetic(name).kept for name in names):
    return False
  chose = hosts.on_one_host(choose, config, workdir)
  trained = classify.train_all(config, workdir, kept=True)
  return chose or trained


def choose(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Writes `synthetic/kept.json` and its pictures; false if they are there, of this judge and rule."""
  workdir = pathlib.Path(workdir)
  data, manifests = prepare.load(workdir), finished_rounds(workdir)
  judge = judges.load_judge(config, workdir)
  marks = {manifest['round']: synthetic_sets.round_hash(manifest) for manifest in manifests}
  inputs = config_lib.config_hash(
    config.filter, judge.description, data.info['split_hash'], sorted(marks.items())
  )
  if (workdir / kept_lib.NAME).is_file() and kept_lib.read(workdir).inputs == inputs:
    return False
  check_leakage(data, manifests, judge)
  images, labels = load_rounds(workdir, manifests, data)
  probabilities = judges.probabilities(judge, judge(images))
  ends = np.cumsum([sum(manifest['counts'].values()) for manifest in manifests])
  class_names = data.records.class_names
  rule = Rule(min_confidence=config.filter.min_confidence, top_k=config.filter.top_k)

  rounds, kept = {}, []
  for manifest, mine in zip(manifests, np.split(np.arange(len(labels)), ends[:-1]), strict=True):
    indices = select(probabilities[mine], labels[mine], min_confidence=rule.min_confidence, top_k=rule.top_k)
    asked = labels[mine]
    right = probabilities[mine].argmax(-1) == asked
    rounds[str(manifest['round'])] = KeptRound(
      round_hash=marks[manifest['round']],
      asked=_by_class(asked, len(class_names)),
      judged_right=_by_class(asked[right], len(class_names)),
      kept_per_class=_by_class(asked[indices], len(class_names)),
      kept=indices.tolist(),
    )
    kept.append(mine[indices])
  chosen = np.concatenate(kept)
  _check_classes(config, labels, chosen, class_names)
  confidence = probabilities[np.arange(len(labels)), labels]
  dropped = np.setdiff1d(np.arange(len(labels)), chosen)
  for name, shown in (('kept', chosen), ('dropped', dropped)):
    picture = _picture(images, labels, confidence, shown, class_names)
    with files.replacing(workdir / 'synthetic' / f'{name}.png') as temporary:
      picture.save(temporary, 'PNG')
  kept_lib.write(
    workdir,
    Kept(inputs=inputs, judge=judge.description, rule=rule, class_names=list(class_names), rounds=rounds),
  )
  logging.info('filter: %d of %d synthetic images kept, judged by %s.', len(chosen), len(labels), judge.name)
  return True


def select(
  probabilities: Float[np.ndarray, 'n k'],
  labels: Int[np.ndarray, ' n'],
  *,
  min_confidence: float,
  top_k: int = 0,
) -> Int[np.ndarray, ' kept']:
  """The images that the judge takes for what they are labelled, confidently enough.

  Args:
    probabilities: of the classes, by the judge.
    labels: what was asked for.
    min_confidence: least probability of the label; the label must have the highest one as well.
    top_k: at most so many a class, the most confident ones (of equals the first); 0 = all.

  Returns:
    Their numbers, ascending.
  """
  confidence = probabilities[np.arange(len(labels)), labels]
  good = (probabilities.argmax(-1) == labels) & (confidence >= min_confidence)
  if top_k:
    best = np.lexsort((-confidence, labels))  # class after class, the most confident first
    best = best[good[best]]
    starts = np.searchsorted(labels[best], labels[best])
    good = np.isin(np.arange(len(labels)), best[np.arange(len(best)) - starts < top_k])
  return np.flatnonzero(good)


def _by_class(labels: Int[np.ndarray, ' n'], num_classes: int) -> list[int]:
  return np.bincount(labels, minlength=num_classes).tolist()


def _check_classes(
  config: ml_collections.ConfigDict,
  labels: Int[np.ndarray, ' n'],
  chosen: Int[np.ndarray, ' kept'],
  class_names: Sequence[str],
) -> None:
  rule = f'config.filter.min_confidence={config.filter.min_confidence}'
  if not len(chosen):
    raise UserError(f'{rule}: no synthetic image is kept; set it lower')
  empty = sorted(set(labels.tolist()) - set(labels[chosen].tolist()))
  if empty:
    logging.warning(
      'filter: no image of %s is kept: regimes on kept images alone do not learn that class; set '
      '--config.filter.min_confidence lower.',
      ', '.join(class_names[k] for k in empty),
    )


def _picture(
  images: UInt8[np.ndarray, 'n h w c'],
  labels: Int[np.ndarray, ' n'],
  confidence: Float[np.ndarray, ' n'],
  shown: Int[np.ndarray, ' m'],
  class_names: Sequence[str],
) -> Any:
  """A row a class, its least confident images first: those nearest to the border for kept, farthest for dropped."""
  rows = np.full((len(class_names), _COLUMNS, *images.shape[1:]), 255, np.uint8)
  for k in range(len(class_names)):
    mine = shown[labels[shown] == k]
    mine = mine[np.argsort(confidence[mine], kind='stable')][:_COLUMNS]
    rows[k, : len(mine)] = images[mine]
  return grid(rows, class_names)
