"""What a run says in a few sentences: means over seeds, the best model, and whether synthetic data helped."""

import math
import statistics
from typing import Any

from fetal_jax.report.collect import model_title
from fetal_jax.train.regimes import REGIMES

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
  """Runs as {model: {regime: [a run a seed]}}, in the order they come."""
  grouped: dict[str, dict[str, list[dict[str, Any]]]] = {}
  for run in runs:
    grouped.setdefault(run['model'], {}).setdefault(run['regime'], []).append(run)
  return grouped


def mean_accuracy(runs: list[dict[str, Any]]) -> float:
  """The mean test accuracy over seeds, -inf if unknown (so that it never is the best)."""
  found = mean_and_sd([SCORES['accuracy'](run) for run in runs])
  return found[0] if found else -math.inf


def best_regime(regimes: dict[str, list[dict[str, Any]]], *, synthetic_only: bool = False) -> str | None:
  """The regime with the best mean test accuracy; with `synthetic_only`, of those other than `real`."""
  names = [name for name in regimes if not (synthetic_only and name == 'real')]
  return max(names, key=lambda name: mean_accuracy(regimes[name]), default=None)


def regime_title(regime: str, rounds: list[dict[str, Any]]) -> str:
  """The regime's title with the number of images that this run's rounds have."""
  if regime not in REGIMES:
    return regime
  sizes = {r['round']: sum((r['counts'] or {}).values()) for r in rounds}
  r1 = f'{sizes[1]:,}' if 1 in sizes else 'round 1'
  r12 = f'{sizes[1] + sizes[2]:,}' if 1 in sizes and 2 in sizes else 'rounds 1 + 2'
  return REGIMES[regime].title.format(r1=r1, r12=r12)


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
  """The page's opening: `sentences`, and `tiles` (dicts of `value`, `label`) with its main figures."""
  sentences, tiles = [_what_was_done(results)], []
  data, rounds, runs = results['data'], results['rounds'], results['runs']
  drawn = sum(sum((r['counts'] or {}).values()) for r in rounds)
  grouped = groups(runs)
  best = max(
    ((model, regime) for model in grouped for regime in grouped[model]),
    key=lambda key: mean_accuracy(grouped[key[0]][key[1]]),
    default=None,
  )
  if best is not None and math.isfinite(mean_accuracy(grouped[best[0]][best[1]])):
    chosen = grouped[best[0]][best[1]]
    accuracy, n = mean_accuracy(chosen), test_images(runs)
    of = f' of {n:,} test images' if n else ''
    seeds = f'mean of {len(chosen)} seeds' if len(chosen) > 1 else 'one seed'
    sentences.append(
      f'The best test accuracy is {100 * accuracy:.1f} %{of} ({seeds}): {model_title(best[0])}, '
      f'{_lower_first(regime_title(best[1], rounds))}.'
    )
    tiles.append(
      {'value': f'{100 * accuracy:.1f} %', 'label': f'best test accuracy ({model_title(best[0])})'}
    )
    sentences += _did_it_help(results)
    top = max(gains(results), key=lambda row: row['gain'], default=None)
    if top is not None:
      tiles.append(
        {
          'value': points(top['gain']),
          'label': f'largest change from synthetic data ({model_title(top["model"])})',
        }
      )
  if drawn:
    tiles.append({'value': f'{drawn:,}', 'label': 'synthetic images drawn'})
  if data:
    share = data['test_patient_overlap']
    tiles.append(
      {'value': f'{100 * share:.0f} %', 'label': 'of test images show a patient who is also in training'}
    )
  return {'sentences': sentences, 'tiles': tiles}


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


def _did_it_help(results: dict[str, Any]) -> list[str]:
  """Real images alone against each model's best synthetic regime, and how much such a difference is worth."""
  rows, n = gains(results), test_images(results['runs'])
  if not rows:
    return ['Whether synthetic data helped cannot be said: no model has both a real and a synthetic regime.']
  better = [row for row in rows if row['gain'] > 0]
  listed = '; '.join(
    f'{model_title(row["model"])} {100 * row["real"]:.1f} → {100 * row["synthetic"]:.1f} % ({points(row["gain"])})'
    for row in rows
  )
  sentences = [
    f'Against real images alone, the best regime with synthetic images was better for {len(better)} of '
    f'{len(rows)} model{"s" * (len(rows) > 1)}: {listed}.'
  ]
  if n:
    accuracy = max(row['synthetic'] for row in rows)
    half = 196 * math.sqrt(max(accuracy * (1 - accuracy), 1e-12) / n)
    seeds = max(len(runs) for regimes in groups(results['runs']).values() for runs in regimes.values())
    sentences.append(
      f'How sure: an accuracy measured on {n:,} images is itself uncertain by about ±{half:.1f} points (95 %, '
      f'were all images independent; images of one patient are not), {"with one seed a model" if seeds == 1 else f"over {seeds} seeds"}, '
      'and the best of several regimes was picked after the fact. Smaller differences are not evidence.'
    )
  return sentences


def points(difference: float) -> str:
  """A difference of two fractions in percentage points, with its sign."""
  return f'{100 * difference:+.1f} points'.replace('-', '−')


def _lower_first(text: str) -> str:
  return text[0].lower() + text[1:]
