"""The report's figures: SVG charts in a light and a dark version, and PNG strips of images.

A chart is a function of data and a `Theme` that returns a matplotlib Figure; `svg` draws it in a theme. Colours
are those of Okabe and Ito, which people with any common colour blindness can tell apart, and never the only
difference between two lines.
"""

import dataclasses
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from fetal_jax.report import paper, summary
from fetal_jax.report.run import model_title, order
from fetal_jax.train.regimes import CONTROL

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

MOST_POINTS = 400  # a curve is thinned to this many: more cannot be seen


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours of a chart; `surface` is that of the page's cards in `templates/style.css`."""

  ink: str
  muted: str
  grid: str
  surface: str
  fill: str  # of a full cell of a confusion matrix
  on_fill: str  # text on it


LIGHT = Theme(
  ink='#1b2430', muted='#5b6775', grid='#e3e8ee', surface='#ffffff', fill='#1f5f8b', on_fill='#ffffff'
)
DARK = Theme(
  ink='#e6ebf1', muted='#9aa7b5', grid='#2c3744', surface='#18212b', fill='#7cc0ea', on_fill='#0d1420'
)
THEMES = {'light': LIGHT, 'dark': DARK}

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = '#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9'

# Regime: (colour, None being the theme's ink; line; marker). Synthetic only is dashed, mixed is dotted.
REGIME_STYLES: dict[str, tuple[str | None, str, str]] = {
  'real': (None, '-', 'o'),
  'synth_r1': (ORANGE, '--', 'v'),
  'synth_r1_then_real': (SKY, '-', 's'),
  'synth_r1_plus_real': (GREEN, ':', 'D'),
  'synth_r12': (VERMILION, '--', '^'),
  'synth_r12_then_real': (PURPLE, '-', 'P'),
  CONTROL: (BLUE, '-.', 'X'),
}
OTHER_STYLE: tuple[str | None, str, str] = (SKY, '-.', 'X')
_QUARTILE_STYLES = ((SKY, '-'), (GREEN, '--'), (ORANGE, '-.'), (VERMILION, ':'))


def svg(draw: Callable[..., 'Figure'], *args: Any, theme: Theme) -> bytes:
  """Draws a chart as SVG, text as outlines; the same bytes for the same data."""
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG

  style: dict[Any, Any] = {
    'font.size': 9,
    'axes.titlesize': 9.5,
    'axes.edgecolor': theme.muted,
    'axes.labelcolor': theme.ink,
    'axes.linewidth': 0.8,
    'axes.facecolor': 'none',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'figure.facecolor': theme.surface,
    'grid.color': theme.grid,
    'legend.fontsize': 8,
    'legend.frameon': False,
    'text.color': theme.ink,
    'xtick.color': theme.muted,
    'ytick.color': theme.muted,
    'svg.hashsalt': 'fetal_jax',
  }
  with matplotlib.rc_context(style):
    figure = draw(*args, theme)
    out = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={'Date': None, 'Creator': None})
  return out.getvalue()


def new_axes(width: float, height: float) -> tuple['Figure', 'Axes']:
  """A figure of one plot, in inches, with horizontal grid lines."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained')
  axes = figure.add_subplot()
  axes.grid(axis='y')
  axes.set_axisbelow(True)
  return figure, axes


def accuracies(results: dict[str, Any], theme: Theme) -> 'Figure':
  """Test accuracy by model and regime: this run's means (bars: ± one standard deviation) over the paper's."""
  grouped = summary.groups(results['runs'])
  regimes = sorted({r for by in grouped.values() for r in by}, key=lambda regime: order('', regime))
  figure, axes = new_axes(4.8, 0.9 + 0.55 * len(grouped) + 0.19 * (len(regimes) + 1))
  axes.grid(axis='y', visible=False)
  axes.grid(axis='x')
  hollow: dict[str, Any] = {'linestyle': '', 'markersize': 5, 'markerfacecolor': 'none', 'alpha': 0.8}
  handles = []
  for regime in regimes:
    colour, _, marker = REGIME_STYLES.get(regime, OTHER_STYLE)
    style: dict[str, Any] = {'marker': marker, 'color': colour or theme.ink}
    handles += axes.plot([], [], linestyle='', label=summary.regime_title(regime, results['rounds']), **style)
    for row, (model, by_regime) in enumerate(grouped.items()):
      found = summary.mean_and_sd([summary.SCORES['accuracy'](run) for run in by_regime.get(regime, [])])
      if found is not None:
        sd = 100 * found[1] if found[1] is not None else None
        axes.errorbar(100 * found[0], row - 0.12, xerr=sd, markersize=6.5, capsize=2, elinewidth=1, **style)
      theirs = paper.MODELS[model].accuracy.get(regime) if model in paper.MODELS else None
      if theirs is not None:
        axes.plot(theirs, row + 0.2, **style, **hollow)
  handles += axes.plot([], [], marker='o', color=theme.muted, label='hollow: the paper', **hollow)
  for row in range(len(grouped)):
    axes.axhline(row, color=theme.grid, linewidth=0.8, zorder=0)
  axes.set_yticks(range(len(grouped)), [model_title(model) for model in grouped])
  axes.tick_params(axis='y', length=0, labelcolor=theme.ink)
  axes.set_ylim(len(grouped) - 0.5, -0.5)
  axes.set_xlabel('test accuracy (%)')
  axes.spines['left'].set_visible(False)
  figure.legend(handles=handles, loc='outside lower center', labelcolor=theme.ink)
  return figure


def confusion(counts: list[list[int]], class_names: list[str], theme: Theme) -> 'Figure':
  """A confusion matrix: each row in percent of its true class, with the counts beneath."""
  from matplotlib.colors import LinearSegmentedColormap

  table = np.asarray(counts)
  share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
  k = len(class_names)
  figure, axes = new_axes(max(3.4, 0.62 * k + 1.0), max(3.0, 0.56 * k + 0.8))
  axes.grid(visible=False)
  axes.imshow(
    share, cmap=LinearSegmentedColormap.from_list('cell', [theme.surface, theme.fill]), vmin=0, vmax=1
  )
  for i, j in np.ndindex(k, k):
    if table[i, j]:
      colour = theme.on_fill if share[i, j] > 0.55 else theme.ink
      axes.text(j, i - 0.12, f'{100 * share[i, j]:.0f} %', ha='center', va='center', color=colour)
      axes.text(
        j, i + 0.26, f'{table[i, j]:,}', ha='center', va='center', color=colour, fontsize=7, alpha=0.9
      )
  axes.set_xticks(range(k), class_names, rotation=35, ha='right', rotation_mode='anchor')
  axes.set_yticks(range(k), class_names)
  axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
  axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
  axes.grid(which='minor', color=theme.grid, linewidth=0.8)
  axes.tick_params(which='both', length=0)
  axes.set_xlabel('predicted class')
  axes.set_ylabel('true class')
  for spine in axes.spines.values():
    spine.set_visible(False)
  return figure


Curves = dict[str, tuple[list[float], list[float]]]


def diffusion_loss(curves: Curves, timesteps: int, theme: Theme) -> 'Figure':
  """The UNet's training loss against optimiser steps, by quarter of the noise levels."""
  figure, axes = new_axes(4.8, 3.2)
  if 'unet/loss' in curves:
    axes.plot(*thin(*curves['unet/loss']), color=theme.ink, linewidth=1.8, label='all t')
  _quartiles(axes, curves, 'unet/loss_q', timesteps)
  axes.set_yscale('log')
  _finish(axes, 'optimiser step', 'UNet loss (hybrid, log scale)', theme)
  return figure


def guide_accuracy(curves: Curves, timesteps: int, num_classes: int, theme: Theme) -> 'Figure':
  """The guide's accuracy on noised images, by quarter of the noise levels: held-out if known, else training."""
  held_out = any(key.startswith('guide/heldout_accuracy') for key in curves)
  prefix = 'guide/heldout_accuracy' if held_out else 'guide/accuracy'
  figure, axes = new_axes(4.8, 3.2)
  percent = {key: (steps, [100 * v for v in values]) for key, (steps, values) in curves.items()}
  if prefix in percent:
    axes.plot(*thin(*percent[prefix]), color=theme.ink, linewidth=1.8, label='all t')
  _quartiles(axes, percent, f'{prefix}_q', timesteps)
  if num_classes:
    axes.axhline(100 / num_classes, color=theme.muted, linewidth=0.8, linestyle=(0, (1, 3)), label='chance')
  axes.set_ylim(0, 100)
  _finish(axes, 'optimiser step', f'guide accuracy, {"held-out" if held_out else "training"} (%)', theme)
  return figure


def _quartiles(axes: 'Axes', curves: Curves, prefix: str, timesteps: int) -> None:
  for q, (colour, line) in enumerate(_QUARTILE_STYLES):
    if f'{prefix}{q}' in curves:
      label = f't {q * timesteps // 4}–{(q + 1) * timesteps // 4 - 1}'
      axes.plot(*thin(*curves[f'{prefix}{q}']), color=colour, linestyle=line, linewidth=1.2, label=label)


def classifier_curves(
  by_regime: dict[str, list[dict[str, Any]]], rounds: list[dict[str, Any]], key: str, theme: Theme
) -> 'Figure':
  """One number of the classifiers' history against epochs: a line a regime (mean over seeds).

  Args:
    by_regime: runs of one model, by regime.
    rounds: manifests, for the regimes' titles.
    key: `validation_accuracy`, `test_accuracy`, `train_accuracy` or `train_loss`.
  """
  figure, axes = new_axes(4.8, 3.4)
  scale = 100 if key.endswith('accuracy') else 1
  for regime, runs in by_regime.items():
    colour, line, _ = REGIME_STYLES.get(regime, OTHER_STYLE)
    by_epoch: dict[float, list[float]] = {}
    for run in runs:
      for row in run.get('history') or ():
        if row.get(key) is not None:
          by_epoch.setdefault(row['epoch'], []).append(scale * row[key])
    if by_epoch:
      epochs = sorted(by_epoch)
      means = [sum(by_epoch[e]) / len(by_epoch[e]) for e in epochs]
      label = summary.regime_title(regime, rounds)
      marker = 'o' if len(epochs) == 1 else ''
      axes.plot(
        *thin(epochs, means), line, marker=marker, color=colour or theme.ink, linewidth=1.3, label=label
      )
  what = {'train_loss': 'training loss', 'train_accuracy': 'training accuracy (%)'}
  _finish(
    axes, 'epoch', what.get(key, f'{key.removesuffix("_accuracy")} accuracy (%)'), theme, long_labels=True
  )
  return figure


def _finish(axes: 'Axes', xlabel: str, ylabel: str, theme: Theme, *, long_labels: bool = False) -> None:
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  axes.margins(x=0.02)
  if axes.get_legend_handles_labels()[0]:
    axes.figure.legend(loc='outside lower center', ncols=1 if long_labels else 3, labelcolor=theme.ink)


def thin(steps: list[float], values: list[float]) -> tuple[np.ndarray, np.ndarray]:
  """Means over runs of neighbours, at most MOST_POINTS of them; short curves stay as they are."""
  x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
  if len(x) <= MOST_POINTS:
    return x, y
  parts = np.array_split(np.arange(len(x)), MOST_POINTS)
  return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def strip(images: UInt8[np.ndarray, 'n h w c'], most_pixels: int = 128) -> bytes:
  """Images side by side in a PNG, with clear gaps; larger ones are scaled down to `most_pixels` a side."""
  from PIL import Image

  tiles = [
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert('RGBA') for image in images
  ]
  for tile in tiles:
    tile.thumbnail((most_pixels, most_pixels))
  width, height = tiles[0].size
  gap = max(1, width // 32)
  sheet = Image.new('RGBA', (len(tiles) * (width + gap) - gap, height), (0, 0, 0, 0))
  for i, tile in enumerate(tiles):
    sheet.paste(tile, (i * (width + gap), 0))
  out = io.BytesIO()
  (sheet if images.shape[-1] == 3 else sheet.convert('LA')).save(out, 'PNG', optimize=True)
  return out.getvalue()
