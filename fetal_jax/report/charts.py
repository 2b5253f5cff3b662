"""What the charts of all sections share: themes, the styles of regimes, and drawing as SVG.

A chart is a function of data and a `Theme` that returns a matplotlib Figure; `chart` draws it once and replaces the
theme's colours for the other theme. All other colours are those of Okabe and Ito, which people with any common colour
blindness can tell apart, and never the only difference between two lines.
"""

import dataclasses
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fetal_jax.report.page import Picture
from fetal_jax.train.regimes import CONTROL

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

MOST_POINTS = 400  # a curve is thinned to this many: more cannot be seen


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours of a chart, each another one, so that they can be replaced; a shade is a colour with `alpha`.

  `surface` is that of the page's cards in `templates/style.css`.
  """

  ink: str
  muted: str
  grid: str
  surface: str
  fill: str  # of a full cell of a confusion matrix
  on_fill: str  # text on it


LIGHT = Theme(
  ink='#1b2430', muted='#5b6775', grid='#e3e8ee', surface='#ffffff', fill='#1f5f8b', on_fill='#fefefe'
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


def chart(name: str, alt: str, caption: str, draw: Callable[..., 'Figure'], *args: Any) -> Picture:
  """Draws `draw(*args, theme)` in both themes as the picture `<name>.svg`."""
  light = svg(draw, *args, theme=LIGHT)
  return Picture(f'{name}.svg', alt, caption, {'light': light, 'dark': in_dark(light)})


def in_dark(drawing: bytes) -> bytes:
  """Returns an SVG drawn in `LIGHT` with the colours of `DARK`."""
  light, dark = (dataclasses.asdict(theme) for theme in (LIGHT, DARK))
  colours = {light[name].encode(): dark[name].encode() for name in light}
  return re.sub(rb'#[0-9a-f]{6}\b', lambda found: colours.get(found[0], found[0]), drawing)


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
  with matplotlib.rc_context(style), warnings.catch_warnings():
    warnings.simplefilter('ignore', UserWarning)  # of letters that the font lacks; the tables have them
    figure = draw(*args, theme)
    out = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={'Date': None, 'Creator': None})
  return out.getvalue()


def new_axes(width: float, height: float) -> tuple['Figure', 'Axes']:
  """Returns a figure of one plot, its size in inches, with horizontal grid lines."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained')
  axes = figure.add_subplot()
  axes.grid(axis='y')
  axes.set_axisbelow(True)
  return figure, axes


def finish(axes: 'Axes', xlabel: str, ylabel: str, theme: Theme, *, long_labels: bool = False) -> None:
  """Names the axes and draws the legend beneath them."""
  axes.set_xlabel(xlabel)
  axes.set_ylabel(ylabel)
  axes.margins(x=0.02)
  if axes.get_legend_handles_labels()[0]:
    axes.figure.legend(loc='outside lower center', ncols=1 if long_labels else 3, labelcolor=theme.ink)


def thin(steps: list[float], values: list[float]) -> tuple[np.ndarray, np.ndarray]:
  """Averages neighbours so that at most MOST_POINTS are left; short curves stay as they are."""
  x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
  if len(x) <= MOST_POINTS:
    return x, y
  parts = np.array_split(np.arange(len(x)), MOST_POINTS)
  return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])
