"""Names and order of models and regimes."""

import pytest
from helpers import fake_workdir

from fetal_jax.report import names
from fetal_jax.report import run as run_lib


@pytest.fixture(scope='module')
def rounds(tmp_path_factory):
  workdir = fake_workdir.make(tmp_path_factory.mktemp('names'), models=(), num_images=60, image_size=8)
  return run_lib.read(workdir).rounds


def test_models_have_the_papers_names():
  assert names.model_title('vit_b_32') == 'ViT-B/32'
  assert names.model_title('my_net') == 'my_net'


@pytest.mark.parametrize(
  ('regime', 'title'),
  [
    ('real', 'Real images only'),
    ('synth_r1', 'Synthetic only, 48'),
    ('synth_r12_then_real', 'Pretrained on 96 synthetic, fine-tuned on real'),
    ('mine', 'mine'),
  ],
)
def test_regimes_are_named_with_the_images_of_this_run(rounds, regime, title):
  assert names.regime_title(regime, rounds) == title


def test_without_rounds_their_numbers_stand_in_the_name():
  assert names.regime_title('synth_r1', []) == 'Synthetic only, round 1'
  assert names.regime_title('synth_r12', []) == 'Synthetic only, rounds 1 + 2'


def test_the_papers_come_first_in_its_order():
  models = ['my_net', 'resnet50', 'vit_b_32', 'a_net']
  assert sorted(models, key=lambda m: names.order(m, '')) == ['vit_b_32', 'resnet50', 'a_net', 'my_net']
  regimes = ['synth_100', 'mine', 'synth_24', 'synth_r12', 'real']
  assert sorted(regimes, key=lambda r: names.order('', r)) == [
    'real', 'synth_r12', 'mine', 'synth_24', 'synth_100'
  ]  # fmt: skip


def test_a_title_within_a_sentence():
  assert names.lower_first('Real images only') == 'real images only'
