"""A workdir keeps the settings that its results depend on."""

import pathlib

import pytest

from fetal_jax import config as config_lib
from fetal_jax.config import changes
from fetal_jax.runtime import run
from fetal_jax.runtime.errors import UserError


def begin(folder: pathlib.Path, *names: str, **changes) -> None:
  """A workdir with results of the default config but for `changes`, whose dots are underscores twice."""
  run.write(folder, run.RunFile(config_lib.to_dict(make_config(**changes)), {}, None))
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def make_config(**changes):
  config = config_lib.default_config()
  with config.unlocked():
    config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in changes.items()})
  return config


PREPARED, TRAINED, DRAWN = 'data/split.json', 'diffusion/checkpoints/40/x', 'synthetic/round_1/manifest.json'
JUDGED, KEPT = (
  'classify/resnet50/real/seed_0/metrics.json',
  'classify/swin_t/synth_r1_kept/seed_0/metrics.json',
)
ALL = (PREPARED, TRAINED, DRAWN, JUDGED, KEPT)


@pytest.mark.parametrize(
  ('result', 'changes'),
  [
    (PREPARED, {'data__image_size': 64}),
    (PREPARED, {'data__path': 'other.zip'}),
    (PREPARED, {'seed': 1}),
    (TRAINED, {'diffusion__unet__width': 64}),
    (TRAINED, {'diffusion__steps_per_call': 5}),
    (TRAINED, {'data__channels': 3}),
    (DRAWN, {'sample__steps': 50}),
    (DRAWN, {'diffusion__steps': 200_000}),
    (DRAWN, {'diffusion__learning_rate': 1e-3}),
    (JUDGED, {'classify__epochs': 10}),
    (JUDGED, {'classify__model_args': {'resnet50': {'depths': (1, 1)}}}),
    (KEPT, {'filter__min_confidence': 0.9}),
  ],
)
def test_settings_that_results_depend_on_are_refused_from_then_on(tmp_path, result, changes):
  begin(tmp_path)
  config_lib.check_changes(make_config(**changes), tmp_path)  # nothing is there yet
  begin(tmp_path, result)
  with pytest.raises(UserError, match='holds results of other settings') as error:
    config_lib.check_changes(make_config(**changes), tmp_path)
  key = next(iter(changes)).replace('__', '.')
  assert f'config.{key}' in str(error.value)


def test_the_differences_are_named_one_by_one(tmp_path):
  begin(tmp_path, TRAINED)
  with pytest.raises(UserError, match=r'config\.diffusion\.unet\.width: 128 there, 256 asked.*new --workdir'):
    config_lib.check_changes(make_config(diffusion__unet__width=256), tmp_path)
  many = make_config(**{f'diffusion__{key}': 0.5 for key in ('learning_rate', 'weight_decay', 'grad_clip')})
  many.diffusion.update(batch_size=64, timesteps=500, schedule='cosine', learn_sigma=False)
  with pytest.raises(UserError, match='; and 2 more') as error:
    config_lib.check_changes(many, tmp_path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'changes',
  [
    {'name': 'other', 'dtype': 'float32', 'compilation_cache': 'off', 'mesh__fsdp': 2},
    {
      'data__num_workers': 3,
      'data__phantom_images': 7,
      'data__patients_csv': 'a.csv',
      'data__test_fraction': 0.5,
    },
    {'diffusion__log_every': 1, 'diffusion__checkpoint_every': 10, 'diffusion__keep_checkpoints': 9},
    {'diffusion__eval_every': 1, 'diffusion__preview_every': 10, 'diffusion__remat': True},
    {'diffusion__skip_nonfinite': 3, 'classify__skip_nonfinite': 3},
    {'sample__rounds': 3, 'sample__batch_size': 0},
    {'classify__models': ('resnet50',), 'classify__num_seeds': 5, 'classify__regimes': ('real',)},
    {'classify__curve': (10,), 'classify__checkpoint_epochs': 1, 'classify__eval_batch_size': 1},
    {'classify__model_args': {'densenet169': {'growth': 8}}},  # of which there is no run
    {'evaluate__max_images': 10, 'sweep__per_class': 3, 'report__show_real_images': False},
  ],
)
def test_settings_that_change_no_result_are_free(tmp_path, changes):
  """Those of another source of data, and those of runs that are not there, among them."""
  begin(tmp_path, *ALL)
  config_lib.check_changes(make_config(**changes), tmp_path)


def test_a_model_may_be_trained_for_longer_until_it_is_sampled_from(tmp_path):
  begin(tmp_path, TRAINED)
  config_lib.check_changes(make_config(diffusion__steps=200_000), tmp_path)


def test_a_damaged_config_json_is_refused(tmp_path):
  begin(tmp_path, *ALL)
  path = tmp_path / 'config.json'
  path.write_text(path.read_text().replace('"image_size": 128', '"image_size": 64'))
  with pytest.raises(UserError, match=r'config\.json: damaged \(not what was written\); delete it') as error:
    config_lib.check_changes(make_config(), tmp_path)
  assert '\n' not in str(error.value)


def test_what_decides_a_result():
  config = make_config(classify__model_args={'resnet50': {'depths': (1, 1)}, 'swin_t': {'width': 8}})
  assert config_lib.decisive(config, 'kept') == {'filter.min_confidence': 0.5, 'filter.top_k': 0}
  assert config_lib.decisive(config, 'classify/resnet50') == {'classify.model_args.resnet50.depths': (1, 1)}
  assert len(config_lib.decisive(config, 'data')) == 13
  assert len(config_lib.decisive(config, 'diffusion')) == 43
  assert set(config_lib.decisive(config, 'synthetic')) - set(config_lib.decisive(config, 'diffusion')) == {
    'diffusion.steps',
    'sample.per_class',
    'sample.method',
    'sample.steps',
    'sample.guidance_scale',
    'sample.guidance_interval',
    'sample.guidance_at',
    'sample.eta',
    'sample.clip',
    'sample.shard_size',
  }


def test_every_result_has_a_file_that_tells_that_it_has_begun():
  decided = {name for setting in config_lib.SETTINGS for name in setting.decides}
  assert decided == set(changes.BEGUN)


def test_whether_anything_depends_on_the_data(tmp_path):
  (tmp_path / 'data').mkdir()
  (tmp_path / 'data' / 'split.json').touch()
  (tmp_path / 'diffusion' / 'checkpoints' / 'damaged').mkdir(parents=True)
  assert not config_lib.has_begun(tmp_path)
  for name in (
    'diffusion/checkpoints/40',
    'synthetic/round_1/manifest.json',
    'classify/a/real/seed_0/checkpoints',
  ):
    (tmp_path / name).mkdir(parents=True)
    assert config_lib.has_begun(tmp_path)
    (tmp_path / name).rmdir()
    assert not config_lib.has_begun(tmp_path)
