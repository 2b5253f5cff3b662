"""Which networks are called reduced, and where the paper's figures may stand."""

import pytest
from helpers.fake_run import classifier, data, make, planes

from fetal_jax.report import sizes
from fetal_jax.report.sizes import Standing


def _run(*runs, about=None):
  return make(runs=list(runs), data=about)


SMALL = classifier('real', model='vit_b_32', reduced=True, parameters=142_300)
TINY = classifier('real', model='resnet50', reduced=True, parameters=15_264)
FULL = classifier('real', model='resnet50', parameters=23_500_000)
OWN = classifier('real', model='my_net', parameters=10)


@pytest.mark.parametrize(
  ('runs', 'about', 'model', 'where'),
  [
    ([FULL], planes(), 'resnet50', Standing.BESIDE),
    ([FULL, SMALL], planes(), 'resnet50', Standing.BESIDE),
    ([FULL, SMALL], planes(), 'vit_b_32', Standing.APART),
    ([FULL], planes(64), 'resnet50', Standing.APART),
    ([FULL], planes(224), 'resnet50', Standing.APART),
    ([FULL], data(image_size=128), 'resnet50', Standing.NOWHERE),  # of another source
    ([FULL], None, 'resnet50', Standing.NOWHERE),  # nobody knows of which source
    ([OWN], planes(), 'my_net', Standing.NOWHERE),
  ],
)
def test_where_the_papers_figures_stand(runs, about, model, where):
  assert sizes.standing(_run(*runs, about=about), model) is where


def test_reduced_networks_say_so_with_their_parameters():
  run = _run(SMALL, TINY, about=planes(32))
  assert sizes.beside(run, 'vit_b_32') == 'reduced, 0.142 M parameters, 32 px'
  assert sizes.titled(run, 'resnet50') == 'ResNet50 (reduced, 0.0153 M parameters, 32 px)'
  assert sizes.summed(run) == 'reduced, 0.0153 to 0.142 M parameters, 32 px'
  cell = sizes.title_cell(run, 'resnet50', 'one seed')
  assert (cell.text, cell.small) == ('ResNet50', 'one seed; reduced, 0.0153 M parameters, 32 px')


def test_full_size_networks_have_their_title_alone():
  run = _run(FULL, about=planes())
  assert sizes.beside(run, 'resnet50') == sizes.summed(run) == ''
  assert sizes.titled(run, 'resnet50') == sizes.title_cell(run, 'resnet50').text == 'ResNet50'
  assert sizes.title_cell(run, 'resnet50').small == ''
  assert sizes.summed(_run(FULL, SMALL)) == '1 of them reduced, 0.142 M parameters'


def test_what_is_not_known_is_said():
  run = _run(classifier('real', model='resnet50', reduced=True), about=planes(32))
  assert sizes.beside(run, 'resnet50') == 'reduced, parameters not known, 32 px'
