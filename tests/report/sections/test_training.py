"""Curves of the diffusion training."""

import xml.etree.ElementTree as ET

from helpers import fake_run, fake_workdir

from fetal_jax.report import charts
from fetal_jax.report import run as run_lib
from fetal_jax.report.sections import training


def test_charts_draw_what_there_is():
  curves = {'unet/loss_q0': ([1, 2], [0.5, 0.4])}
  loss = ET.fromstring(charts.svg(training.diffusion_loss, curves, 1000, theme=charts.LIGHT))
  curves = {'guide/accuracy_q3': ([1], [0.2])}
  accuracy = ET.fromstring(charts.svg(training.guide_accuracy, curves, 1000, 6, theme=charts.DARK))
  assert loss.tag == accuracy.tag == '{http://www.w3.org/2000/svg}svg'


def test_quarters_are_named_by_their_timesteps():
  curves = {f'guide/heldout_accuracy_q{q}': ([1, 2], [0.5, 0.4]) for q in range(4)}
  figure = training.guide_accuracy(curves, 400, 6, charts.LIGHT)
  labels = figure.axes[0].get_legend_handles_labels()[1]
  assert labels == ['t 0–99', 't 100–199', 't 200–299', 't 300–399', 'chance']
  lines = figure.axes[0].get_lines()
  assert lines[0].get_ydata().tolist() == [50, 40]
  assert figure.axes[0].get_ylabel() == 'guide accuracy, held-out (%)'


def test_the_section_shows_what_was_logged(tmp_path):
  fake_workdir.make(tmp_path, models=(), num_images=60, image_size=8)
  (pictures,) = training.section(run_lib.read(tmp_path), tmp_path).blocks
  assert [picture.file for picture in pictures.pictures] == ['diffusion_loss.svg', 'guide_accuracy.svg']


def test_a_training_without_guide_has_one_chart():
  curves = {'unet/loss': ([1, 2], [0.5, 0.4])}
  assert [p.file for p in training.pictures(fake_run.make(), curves)] == ['diffusion_loss.svg']


def test_without_curves_there_is_no_section(tmp_path):
  assert training.section(fake_run.make(), tmp_path) is None
