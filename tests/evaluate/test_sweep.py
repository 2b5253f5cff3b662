"""The sweep: what it draws, judges and recommends."""

import types

import numpy as np
import pytest

from fetal_jax import config as config_lib
from fetal_jax.data import records as records_lib
from fetal_jax.data.rounds import SamplerSettings
from fetal_jax.data.splits import Split
from fetal_jax.evaluate import sweep, sweep_results
from fetal_jax.evaluate.results import FidelityScores
from fetal_jax.evaluate.sweep_results import Common, SweepResults, SweepRow
from fetal_jax.runtime.errors import UserError

FIGURES = {
  'n_real': 9, 'n_fake': 9, 'fid': 1.0, 'kid_subset_size': 9, 'precision': 0.5, 'recall': 0.5, 'density': 0.5,
  'coverage': 0.5, 'notes': {},
}  # fmt: skip


def row(steps, kid, sd=0.01, method='ddim'):
  return SweepRow(
    method=method, steps=steps, guidance_scale=1.0, kid=kid, kid_sd=sd, seconds=1.0, classifier_accuracy=0.9,
    guide_accuracy=None, **FIGURES,
  )  # fmt: skip


def test_the_cheapest_of_the_indistinguishable_is_recommended():
  assert sweep.recommend([row(250, 0.10), row(50, 0.105), row(25, 0.109), row(10, 0.3)]).steps == 25
  assert sweep.recommend([row(250, 0.10, sd=None), row(50, 0.105)]).steps == 250
  same_cost = [row(25, 0.109), row(25, 0.101, method='dpmpp_2m'), row(250, 0.10)]
  assert sweep.recommend(same_cost).method == 'dpmpp_2m'


def test_settings_are_scales_then_samplers_each_once():
  config = config_lib.default_config()
  config.sample.update(method='ddim', steps=50, guidance_scale=0.5)
  config.sweep.update(scales=(0, 0.5), samplers=('ddim:50', 'dpmpp_2m:10', 'ancestral:5000'))
  names = [sweep.name(s) for s in sweep.make_settings(config, has_guide=True)]
  assert names == ['ddim_50_scale_0', 'ddim_50_scale_0.5', 'dpmpp_2m_10_scale_0.5']
  unguided = [sweep.name(s) for s in sweep.make_settings(config, has_guide=False)]
  assert unguided == ['ddim_50_scale_0', 'dpmpp_2m_10_scale_0']


def test_a_setting_without_kid_is_not_recommended():
  assert sweep.recommend([row(10, None), row(25, 0.2, sd=None)]).steps == 25


def test_flags_ask_for_the_setting():
  assert sweep.flags(sweep.Setting('ddim', 25, 0.5)) == [
    '--config.sample.method=ddim',
    '--config.sample.steps=25',
    '--config.sample.guidance_scale=0.5',
  ]


ABOUT = {
  'images': 9, 'seed': 0, 'checkpoint_step': 7, 'split_hash': 'a', 'classifier': 'auto', 'encoder': 'classifier',
  'common': Common(interval=(0, 500)),
}  # fmt: skip


def test_rows_of_earlier_starts_are_read_and_those_of_another_model_refused(tmp_path):
  assert sweep._read(tmp_path, ABOUT) == {}
  floor = FidelityScores(kid=0.01, kid_sd=None, **FIGURES)
  words = {'reference': 'a', 'judge': 'b', 'encoded_by': 'c'}
  results = SweepResults(**ABOUT, settings={'x': row(10, 0.1)}, real_accuracy=0.9, floor=floor, **words)
  sweep_results.write(tmp_path, results)
  assert sweep._read(tmp_path, ABOUT) == {'x': row(10, 0.1)}
  with pytest.raises(
    UserError, match=r'results.json: of another checkpoint_step; delete .*sweep to sweep again'
  ):
    sweep._read(tmp_path, {**ABOUT, 'checkpoint_step': 8})


def test_what_a_sweep_varies_is_not_what_it_is_about():
  config = config_lib.default_config()
  model = types.SimpleNamespace(class_names=('a', 'b'), step=7, split_hash='a')
  one = SamplerSettings(method='ddim', steps=9, guidance_scale=1.0, interval=(0, 500), clip=None)
  other = SamplerSettings(method='ancestral', steps=250, guidance_scale=0.0, interval=(0, 500), clip=None)
  assert sweep._about(config, model, one) == sweep._about(config, model, other)
  assert sweep._about(config, model, one)['common'] == Common(interval=(0, 500), clip=None)


def sides(validation):
  """Which of 40 images of 20 patients are compared with, and make the floor; of the first 20 the judge has not seen 12."""
  names, whose = [f'{k}' for k in range(40)], [f'p{k // 2}' for k in range(40)]
  data = types.SimpleNamespace(
    split=Split(np.arange(20), np.array(validation, np.int64), np.arange(30, 40)),
    records=records_lib.make(names, np.arange(40) % 2, whose, ('a', 'b')),
    info=types.SimpleNamespace(seed=0),
  )
  judge = types.SimpleNamespace(parts=types.SimpleNamespace(rest=np.arange(8, 20)))
  return sweep._sides(data, judge)


def test_settings_are_compared_with_validation_images():
  reference, floor, words = sides(range(20, 30))
  assert reference.tolist() == list(range(20, 30))
  assert floor.tolist() == list(range(8, 20))
  assert words == '10 real images of the validation side'


def test_without_validation_images_nothing_is_chosen_on_the_test_side(caplog):
  reference, floor, words = sides([])
  assert sorted([*reference, *floor]) == list(range(8, 20))
  assert not set(reference // 2) & set(floor // 2)  # whole patients
  assert len(reference) == 6
  assert words == '6 real training images that the generator has seen and the judge has not'
  assert 'the generator has seen: one that copies more looks better' in caplog.text
