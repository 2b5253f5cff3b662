"""The training of the diffusion model: loss of the UNet, accuracy of the guide, by noise level."""

import pathlib
import re
from typing import TYPE_CHECKING

from fetal_jax.report.charts import GREEN, ORANGE, SKY, VERMILION, Theme, chart, finish, new_axes, thin
from fetal_jax.report.page import Picture, Pictures, Section
from fetal_jax.report.run import Run
from fetal_jax.runtime.metrics import read_curves

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Curves = dict[str, tuple[list[float], list[float]]]
_QUARTILE_STYLES = ((SKY, '-'), (GREEN, '--'), (ORANGE, '-.'), (VERMILION, ':'))


def section(run: Run, workdir: pathlib.Path) -> Section | None:
  """Shows the curves that were logged; None without any."""
  curves = read_curves(workdir / 'logs' / 'diffusion' / 'metrics.jsonl')
  drawn = pictures(run, curves)
  return (
    Section('training', 'Diffusion training', [Pictures(drawn)], nav='Diffusion training') if drawn else None
  )


def pictures(run: Run, curves: Curves) -> list[Picture]:
  """Draws the loss of the UNet and the accuracy of the guide, those that are in the curves."""
  timesteps = (run.config.get('diffusion') or {}).get('timesteps') or 1000
  num_classes = len(run.data.class_names) if run.data else 0
  found = []
  if any(key.startswith('unet/loss') for key in curves):
    alt = 'Loss of the UNet against optimiser steps, a line for each quarter of the noise levels.'
    caption = 'Loss of the UNet by noise level: t is the timestep; a small t means little noise.'
    found.append(chart('diffusion_loss', alt, caption, diffusion_loss, curves, timesteps))
  if any(re.match('guide/(heldout_)?accuracy', key) for key in curves):
    alt = 'Accuracy of the guide on noised images against optimiser steps, a line for each quarter of the noise levels.'
    caption = 'Accuracy of the guide on noised images by noise level. Near chance at high noise is normal.'
    found.append(chart('guide_accuracy', alt, caption, guide_accuracy, curves, timesteps, num_classes))
  return found


def diffusion_loss(curves: Curves, timesteps: int, theme: Theme) -> 'Figure':
  """Draws the UNet's training loss against optimiser steps, by quarter of the noise levels."""
  figure, axes = new_axes(4.8, 3.2)
  if 'unet/loss' in curves:
    axes.plot(*thin(*curves['unet/loss']), color=theme.ink, linewidth=1.8, label='all t')
  _quartiles(axes, curves, 'unet/loss_q', timesteps)
  axes.set_yscale('log')
  finish(axes, 'optimiser step', 'UNet loss (hybrid, log scale)', theme)
  return figure


def guide_accuracy(curves: Curves, timesteps: int, num_classes: int, theme: Theme) -> 'Figure':
  """Draws the guide's accuracy on noised images, by quarter of the noise levels: held-out if known, else training."""
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
  finish(axes, 'optimiser step', f'guide accuracy, {"held-out" if held_out else "training"} (%)', theme)
  return figure


def _quartiles(axes: 'Axes', curves: Curves, prefix: str, timesteps: int) -> None:
  for q, (colour, line) in enumerate(_QUARTILE_STYLES):
    if f'{prefix}{q}' in curves:
      label = f't {q * timesteps // 4}–{(q + 1) * timesteps // 4 - 1}'
      axes.plot(*thin(*curves[f'{prefix}{q}']), color=colour, linestyle=line, linewidth=1.2, label=label)
