"""What a run says in a few sentences: what was done, whether synthetic data helped, and whether it was copied."""

import math
import statistics
from typing import Any

from fetal_jax.report import kinds
from fetal_jax.report.run import model_title
from fetal_jax.train.regimes import CONTROL

# How each score of a run is found; a run whose predictions are gone still has its test accuracy.
SCORES = {
  'accuracy': lambda run: run['scores']['accuracy'] if run['scores'] else run.get('test_accuracy'),
  'balanced_accuracy': lambda run: run['scores'] and run['scores']['balanced_accuracy'],
  'macro_f1': lambda run: run['scores'] and run['scores']['macro_f1'],
  'auroc': lambda run: run['scores'] and run['scores']['auroc'],
  'last': lambda run: run.get('test_accuracy_last'),
  'epoch': lambda run: run.get('selected_epoch'),
}


def mean_and_sd(values: list[float | None]) -> tuple[float, float | None] | None:
  """The mean and the sample standard deviation (None for a single value); None if there are no values."""
  known = [v for v in values if v is not None]
  if not known:
    return None
  return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def groups(runs: list[dict[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
  """Runs of the main regimes as {model: {regime: [a run a seed]}}, in the order they come; see `kinds`."""
  grouped: dict[str, dict[str, list[dict[str, Any]]]] = {}
  for run in runs:
    if kinds.is_main(run['regime']):
      grouped.setdefault(run['model'], {}).setdefault(run['regime'], []).append(run)
  return grouped


def by_regime(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
  """Runs as {regime: [...]}, in the order they come."""
  found: dict[str, list[dict[str, Any]]] = {}
  for run in runs:
    found.setdefault(run['regime'], []).append(run)
  return found


def mean_accuracy(runs: list[dict[str, Any]]) -> float:
  """The mean test accuracy over seeds, -inf if unknown (so that it never is the best)."""
  found = mean_and_sd([SCORES['accuracy'](run) for run in runs])
  return found[0] if found else -math.inf


def best_regime(regimes: dict[str, list[dict[str, Any]]], *, synthetic_only: bool = False) -> str | None:
  """The regime with the best mean test accuracy; with `synthetic_only`, of those other than `real`."""
  names = [name for name in regimes if not (synthetic_only and name in ('real', CONTROL))]
  return max(names, key=lambda name: mean_accuracy(regimes[name]), default=None)


def regime_title(regime: str, rounds: list[dict[str, Any]]) -> str:
  """The regime's title with the number of images that this run's rounds have."""
  found = kinds.find(regime)
  if found is None:
    return regime
  sizes = {r['round']: sum((r['counts'] or {}).values()) for r in rounds}
  r1 = f'{sizes[1]:,}' if 1 in sizes else 'round 1'
  r12 = f'{sizes[1] + sizes[2]:,}' if 1 in sizes and 2 in sizes else 'rounds 1 + 2'
  return found.title.format(r1=r1, r12=r12)


def gains(results: dict[str, Any]) -> list[dict[str, Any]]:
  """For each model with both: its accuracy on real images alone, in its best synthetic regime, and the gain."""
  rows = []
  for model, regimes in groups(results['runs']).items():
    best = best_regime(regimes, synthetic_only=True)
    if 'real' in regimes and best is not None:
      real, synthetic = mean_accuracy(regimes['real']), mean_accuracy(regimes[best])
      if math.isfinite(real) and math.isfinite(synthetic):
        rows.append(
          {'model': model, 'regime': best, 'real': real, 'synthetic': synthetic, 'gain': synthetic - real}
        )
  return rows


def headline(results: dict[str, Any]) -> dict[str, Any]:
  """The page's opening.

  Returns:
    `sentences`: three, what was done, whether synthetic data helped, and whether anything was copied; `tiles`: dicts of
    `value` and `label`, its main figures.
  """
  tiles = []
  data, rounds = results['data'], results['rounds']
  best = _best(results)
  if best is not None:
    tiles.append({'value': f'{100 * best[2]:.1f} %', 'label': f'best test accuracy ({model_title(best[0])})'})
  planned = results['comparisons']['planned']
  if planned is not None:
    label = 'from synthetic data, mean over models'
    tiles.append({'value': points(planned['value']), 'label': f'{label}; 95 %: {interval(planned)}'})
  drawn = sum(sum((r['counts'] or {}).values()) for r in rounds)
  if drawn:
    tiles.append({'value': f'{drawn:,}', 'label': 'synthetic images drawn'})
  if data:
    share = data['test_patient_overlap']
    tiles.append(
      {'value': f'{100 * share:.0f} %', 'label': 'of test images show a patient who is also in training'}
    )
  return {
    'sentences': [_what_was_done(results), did_it_help(results), was_it_copied(results)],
    'tiles': tiles,
  }


def _best(results: dict[str, Any]) -> tuple[str, str, float] | None:
  """Model, regime and mean test accuracy of the best of all."""
  grouped = groups(results['runs'])
  found = [(m, regime, mean_accuracy(runs)) for m, by in grouped.items() for regime, runs in by.items()]
  found = [row for row in found if math.isfinite(row[2])]
  return max(found, key=lambda row: row[2], default=None)


def did_it_help(results: dict[str, Any]) -> str:
  """One sentence on the comparison that was fixed beforehand, with its interval."""
  planned = results['comparisons']['planned']
  if planned is None:
    return (
      'Whether synthetic data helped cannot be said: no model has predictions on real images alone and in one of the '
      'regimes that use synthetic and real ones.'
    )
  what = {
    'synth_r12_then_real': 'starting from synthetic images of both rounds and fine-tuning on real ones',
    'synth_r1_then_real': 'starting from synthetic images of round 1 and fine-tuning on real ones',
    'synth_r1_plus_real': 'mixing synthetic images of round 1 with the real ones',
  }[planned['regime']]
  change = f'{what} {changed(planned, "real images alone")}'
  control = results['comparisons'].get('control')
  if control is not None:
    change += (
      f', and by {points(control["value"])} ({interval(control)}) against training twice on real images'
    )
  if planned['low'] is None:
    return f'Whether synthetic data helped cannot be said: {change}.'
  if planned['low'] > 0 and control is not None and (control['low'] is None or control['low'] <= 0):
    return f'That synthetic data helped more than longer training does could not be shown: {change}.'
  if planned['low'] > 0:
    return f'Synthetic data helped: {change}.'
  if planned['high'] < 0:
    return f'Synthetic data hurt: {change}.'
  return f'No difference by synthetic data could be shown: {change}.'


def changed(found: dict[str, Any], against: str) -> str:
  """What a paired comparison (see `comparisons.paired`) found, from the verb on."""
  return (
    f'changed the test accuracy by {points(found["value"])} against {against} '
    f'({"95 % interval over patients " if found["low"] is not None else ""}{interval(found)}; {over(found)}; '
    f'{found["images"]:,} images of {found["patients"]:,} patients)'
  )


def over(found: dict[str, Any]) -> str:
  """What models and seeds a paired comparison is about."""
  models, seeds = len(found['models']), len(found['seeds'])
  better = sum(value > 0 for value in found['models'].values())
  of = f'mean over {models} models, better in {better} of them'
  of = of if models > 1 else model_title(next(iter(found['models'])))
  return of + (f', {seeds} seeds each' if seeds > 1 else ', one seed each' if models > 1 else ', one seed')


_COPY_SPACES = {'pixel': 'pixels', 'feature': 'the encoder’s features'}


def was_it_copied(results: dict[str, Any]) -> str:
  """One sentence: what the search for copies found, or that there was none."""
  found = (results['evaluation'] or {}).get('memorisation')
  if not found:
    return 'Whether anything was copied has not been examined: run --stage=evaluate.'
  counts = {
    name: s['duplicates']['count'] for name, s in found['spaces'].items() if s and s.get('duplicates')
  }
  if any(counts.values()):
    listed = ' and '.join(f'{count:,} in {_COPY_SPACES[name]}' for name, count in counts.items() if count)
    return (
      f'Training images were copied: of {found["n_synthetic"]:,} synthetic images {listed} are nearer to a training image '
      'than a single fresh image would come by chance; look at the closest pairs.'
    )
  spaces = {name: s['near'] for name, s in found['spaces'].items() if s and s['near']}
  if found['copied'] is None:
    nearer = ' and '.join(
      f'{100 * space["nearer"]:.0f} % in {_COPY_SPACES[name]}'
      for name, space in found['spaces'].items()
      if space and space['nearer'] is not None
    )
    on_the_whole = f'; on the whole, a synthetic image is the nearer one with a chance of {nearer}, where 50 % would say nothing'
    return (
      f'Whether anything was copied cannot be said: {found["n_heldout"]:,} held-out images are too few to know how near '
      f'the nearest 1 % of fresh real images come to the training images{on_the_whole if nearer else ""}.'
    )
  shares = ' and '.join(
    f'{100 * near["share"]:.1f} % (95 % interval {100 * near["interval"][0]:.1f} to {100 * near["interval"][1]:.1f} %) '
    f'in {_COPY_SPACES[name]}'
    for name, near in spaces.items()
    if near['copied'] or not found['copied']
  )
  rate = 100 * next(iter(spaces.values()))['rate']
  nearer = f'nearer to a training image than {100 - rate:.1f} % of fresh real images are'
  if found['copied']:
    return (
      f'Training images were copied, or nearly: of {found["n_synthetic"]:,} synthetic images {shares} are '
      f'{nearer}, where {rate:.1f} % would be by chance; look at the closest pairs.'
    )
  return (
    f'No sign of copying was found: of {found["n_synthetic"]:,} synthetic images {shares} are {nearer}, '
    f'where {rate:.1f} % would be by chance{", and none is a near duplicate" if counts else ""}.'
  )


def best_of_many(results: dict[str, Any]) -> list[str]:
  """The best accuracy and each model's best synthetic regime, and why such a choice flatters."""
  best, rows = _best(results), gains(results)
  if best is None:
    return []
  n, runs = test_images(results['runs']), groups(results['runs'])[best[0]][best[1]]
  of = f' of {n:,} test images' if n else ''
  seeds = f'mean of {len(runs)} seeds' if len(runs) > 1 else 'one seed'
  sentences = [
    f'The best test accuracy is {100 * best[2]:.1f} %{of} ({seeds}): {model_title(best[0])}, '
    f'{_lower_first(regime_title(best[1], results["rounds"]))}.'
  ]
  if rows:
    better = sum(row['gain'] > 0 for row in rows)
    listed = '; '.join(
      f'{model_title(row["model"])} {100 * row["real"]:.1f} → {100 * row["synthetic"]:.1f} % ({points(row["gain"])})'
      for row in rows
    )
    sentences.append(
      f'Against real images alone, the best regime with synthetic images was better for {better} of {len(rows)} '
      f'model{"s" * (len(rows) > 1)}: {listed}. It was picked after the fact, which flatters it: the comparison that '
      'opens this page was fixed beforehand.'
    )
  return sentences


def test_images(runs: list[dict[str, Any]]) -> int:
  """The number of test images behind the scores; 0 if no run has predictions."""
  return max((run['scores']['n'] for run in runs if run['scores']), default=0)


def _what_was_done(results: dict[str, Any]) -> str:
  data, rounds, runs = results['data'], results['rounds'], results['runs']
  parts = []
  if data:
    parts.append(
      f'{data["totals"]["train"]:,} labelled images of {len(data["class_names"])} classes '
      f'({data["source"]}) were used for training'
    )
  if rounds:
    drawn = sum(sum((r['counts'] or {}).values()) for r in rounds)
    parts.append(f'a classifier-guided diffusion model drew {drawn:,} synthetic ones')
  if runs:
    models, regimes = len({r['model'] for r in runs}), len({r['regime'] for r in runs})
    parts.append(
      f'{models} classifier{"s" * (models > 1)} {"were" if models > 1 else "was"} trained in '
      f'{regimes} regime{"s" * (regimes > 1)}, with and without the synthetic images'
      if regimes > 1
      else f'{models} classifier{"s" * (models > 1)} {"were" if models > 1 else "was"} trained'
    )
  text = '; '.join(parts) or 'nothing has been done in this folder yet'
  return f'{text[0].upper()}{text[1:]}.'


def points(difference: float) -> str:
  """A difference of two fractions in percentage points, with its sign."""
  return f'{signed(difference)} points'


def signed(difference: float) -> str:
  """`points` without the word."""
  return f'{100 * difference:+.1f}'.replace('-', '−')


def interval(found: dict[str, Any]) -> str:
  """The interval of a difference (`value`, `low`, `high`, `why`) in percentage points, or why there is none."""
  if found['low'] is None:
    return f'no interval: {found["why"]}'
  return f'{signed(found["low"])} to {signed(found["high"])}'


def _lower_first(text: str) -> str:
  return text[0].lower() + text[1:]


def longer_training(results: dict[str, Any]) -> str:
  """Said where runs with synthetic images took more optimiser steps than those without, their start's included."""
  steps = with_start(results['runs'], 'steps')
  ratios = []
  for run in results['runs']:
    real = steps.get((run['model'], 'real', run['seed']))
    if real and run['regime'] not in ('real', CONTROL) and run.get('real_images'):
      ratios.append(steps[run['model'], run['regime'], run['seed']] / real)
  if max(ratios, default=1) < 1.1:
    return ''
  said = (
    f'Regimes with synthetic and real images took up to {max(ratios):.1f} times the optimiser steps of real images alone, '
    'their pretraining included: part of a gain may be that of longer training.'
  )
  control = results['comparisons'].get('control')
  if control is None:
    return f'{said} The regime {CONTROL} would tell.'
  title = _lower_first(regime_title(control['regime'], results['rounds']))
  return (
    f'{said} Against the control, real images trained on twice with nothing synthetic, "{title}" is '
    f'{points(control["value"])} (95 % interval {interval(control)}), the mean over {len(control["models"])} '
    f'model{"s" * (len(control["models"]) > 1)}.'
  )


def with_start(runs: list[dict[str, Any]], key: str) -> dict[tuple[str, str, int], int]:
  """A number by model, regime and seed, that of the run whose weights it starts from added."""
  own = {(run['model'], run['regime'], run['seed']): run.get(key) or 0 for run in runs}
  starts = {(run['model'], run['regime'], run['seed']): run.get('initialised_from') for run in runs}
  return {
    (model, regime, seed): n + own.get((model, starts[model, regime, seed], seed), 0)
    for (model, regime, seed), n in own.items()
  }
