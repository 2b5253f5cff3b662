"""The filter stage: keep the synthetic images that show what was asked of them, and train on those alone.

The judge is independent of the generator and its guide, and of all classifiers that are trained on its choice: it has seen
real training images only, and chose its epoch on others of them (`train.judge_parts`).
"""

import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from absl import logging
from jaxtyping import Float, Int, UInt8

from fetal_jax import config as config_lib
from fetal_jax.data import prepared
from fetal_jax.data.grid import grid
from fetal_jax.evaluate import judge as judges
from fetal_jax.evaluate import leakage
from fetal_jax.evaluate.stage import find_rounds, load_images
from fetal_jax.runtime import files, hosts
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import PathLike
from fetal_jax.train import classify, judge_parts, regimes
from fetal_jax.train import kept as kept_lib
from fetal_jax.train.kept import Kept, KeptRound, Rule

_COLUMNS = 10  # of the pictures


def run(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Chooses images of all finished rounds, then trains the regimes on them; without such a regime it does nothing.

  Leaves `synthetic/kept.json` (`train.kept.Kept`) with `kept.png` and `dropped.png` beside it, and the runs of those
  regimes as the classify stage does.

  Returns:
    Whether there was anything to do.

  Raises:
    UserError: there is no judge yet, it or the generator has seen another split, or nothing is kept.
  """
  # The regimes of the curve are never on filtered images.
  if not any(regimes.synthetic(name).kept for name in config.classify.regimes):
    return False
  chose = hosts.on_one_host(choose, config, workdir)
  trained = classify.train_all(config, workdir, kept=True)
  return chose or trained


def choose(config: ml_collections.ConfigDict, workdir: PathLike) -> bool:
  """Writes `synthetic/kept.json` and its pictures; returns False if they are there, of this judge and rule."""
  workdir = pathlib.Path(workdir)
  rule = Rule(min_confidence=config.filter.min_confidence, top_k=config.filter.top_k)
  data, rounds = prepared.load(workdir), find_rounds(workdir)
  judge = judges.load(workdir, judge_parts.model_of(config))
  inputs = config_lib.config_hash(
    config.filter, judge.description, data.info.split_hash, [[one.number, one.hash] for one in rounds]
  )
  if (workdir / kept_lib.NAME).is_file() and kept_lib.read(workdir).inputs == inputs:
    return False

  leakage.check(data, rounds, judge)
  images, labels = load_images(rounds, *data.images.shape[2:])
  probabilities = judge.probabilities(judge.encoder(images))
  found, chosen, start = {}, [], 0
  for one in rounds:
    mine = slice(start, start + one.num_images)
    found[str(one.number)] = _choose_of_round(one.hash, probabilities[mine], labels[mine], rule)
    chosen.append(start + np.array(found[str(one.number)].kept, np.int64))
    start += one.num_images
  kept = np.concatenate(chosen)
  class_names = data.records.class_names
  check_classes(labels, kept, class_names, min_confidence=rule.min_confidence)
  _draw(workdir, images, labels, probabilities, kept, class_names)
  kept_lib.write(
    workdir,
    Kept(inputs=inputs, judge=judge.description, rule=rule, class_names=list(class_names), rounds=found),
  )
  logging.info('filter: %d of %d synthetic images kept, judged by %s.', len(kept), len(labels), judge.model)
  return True


def _choose_of_round(
  mark: str, probabilities: Float[np.ndarray, 'n k'], labels: Int[np.ndarray, ' n'], rule: Rule
) -> KeptRound:
  """Chooses among the images of one round, whose hash is `mark`."""
  kept = select(probabilities, labels, min_confidence=rule.min_confidence, top_k=rule.top_k)
  right = probabilities.argmax(-1) == labels
  num_classes = probabilities.shape[1]
  return KeptRound(
    round_hash=mark,
    asked=_by_class(labels, num_classes),
    judged_right=_by_class(labels[right], num_classes),
    kept_per_class=_by_class(labels[kept], num_classes),
    kept=kept.tolist(),
  )


def select(
  probabilities: Float[np.ndarray, 'n k'],
  labels: Int[np.ndarray, ' n'],
  *,
  min_confidence: float,
  top_k: int = 0,
) -> Int[np.ndarray, ' kept']:
  """Selects the images that the judge takes for what they are labelled, confidently enough.

  Args:
    probabilities: of the classes, by the judge.
    labels: the classes that were asked for.
    min_confidence: least probability of the label; the label must have the highest one as well.
    top_k: at most so many a class, the most confident ones (of equals the first); 0 = all.

  Returns:
    Their indices, ascending.
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


def check_classes(
  labels: Int[np.ndarray, ' n'],
  kept: Int[np.ndarray, ' m'],
  class_names: Sequence[str],
  *,
  min_confidence: float,
) -> None:
  """Refuses a choice without images, and warns of classes without."""
  if not len(kept):
    raise UserError(
      f'config.filter.min_confidence={min_confidence}: no synthetic image is kept; set it lower'
    )
  empty = sorted(set(labels.tolist()) - set(labels[kept].tolist()))
  if empty:
    logging.warning(
      'filter: no image of %s is kept: regimes on kept images alone do not learn that class; set '
      '--config.filter.min_confidence lower.',
      ', '.join(class_names[k] for k in empty),
    )


def _draw(
  workdir: pathlib.Path,
  images: UInt8[np.ndarray, 'n h w c'],
  labels: Int[np.ndarray, ' n'],
  probabilities: Float[np.ndarray, 'n k'],
  kept: Int[np.ndarray, ' m'],
  class_names: Sequence[str],
) -> None:
  """Draws `kept.png` and `dropped.png`: a row a class, the images that the judge is least sure of first."""
  confidence = probabilities[np.arange(len(labels)), labels]
  dropped = np.setdiff1d(np.arange(len(labels)), kept)
  for name, shown in (('kept', kept), ('dropped', dropped)):
    rows = np.full((len(class_names), _COLUMNS, *images.shape[1:]), 255, np.uint8)
    for k in range(len(class_names)):
      mine = shown[labels[shown] == k]
      mine = mine[np.argsort(confidence[mine], kind='stable')][:_COLUMNS]
      rows[k, : len(mine)] = images[mine]
    with files.replacing(workdir / 'synthetic' / f'{name}.png') as temporary:
      grid(rows, class_names).save(temporary, 'PNG')
