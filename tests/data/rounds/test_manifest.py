"""The manifest of a round: what is written is read again, and nothing else is."""

import json

import msgspec
import pytest
from helpers import damage, tiny

from fetal_jax.data.rounds import CheckpointMark, SamplerSettings, ShardEntry, manifest
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile
from fetal_jax.runtime.fingerprint import Fingerprint

FINISHED = tiny.manifest(1, ('a', 'b'), 3, shard_size=2)  # shards of 2 1 2 1 images


def plain():
  return json.loads(msgspec.json.encode(FINISHED))


def refused(folder):
  with pytest.raises(DamagedFile) as error:
    manifest.read(folder)
  message = str(error.value)
  assert message.startswith(f'{folder / "manifest.json"}: damaged (')
  assert f'delete {folder} and run --stage=sample again' in message
  assert '\n' not in message
  return message


def test_what_is_written_is_read(tmp_path):
  manifest.write(tmp_path, FINISHED)
  assert manifest.read(tmp_path) == FINISHED


def test_the_file_has_these_names(tmp_path):
  manifest.write(tmp_path, FINISHED)
  content = json.loads((tmp_path / 'manifest.json').read_text())
  assert len(content.pop('sha256_of_the_rest')) == 64
  assert content.pop('shards')[2] == {
    'bytes': 9, 'sha256': '12', 'file': 'synthetic-train.array_record-00002-of-00004', 'class': 'b', 'label': 1,
    'first': 3, 'count': 2, 'seed': 0, 'checkpoint_step': 40, 'config_hash': '0123',
  }  # fmt: skip
  assert content == {
    'round': 1,
    'seed': 0,
    'class_names': ['a', 'b'],
    'counts': {'a': 3, 'b': 3},
    'shard_size': 2,
    'image_size': 8,
    'channels': 1,
    'sampler': {
      'method': 'ancestral', 'steps': 3, 'guidance_scale': 0.0, 'interval': None, 'guidance_at': 'x_t', 'eta': 0.0,
      'clip': 'static',
    },
    'checkpoint': {'step': 40, 'ema_rate': 0.999, 'split_hash': 'a split'},
    'config_hash': '0123',
    'complete': True,
    'files': {'preview.png': {'bytes': 9, 'sha256': '0'}},
  }  # fmt: skip


def test_a_missing_manifest_is_not_a_damaged_one(tmp_path):
  with pytest.raises(FileNotFoundError):
    manifest.read(tmp_path)


@pytest.mark.parametrize('kind', [damage.flip, damage.cut, damage.empty])
def test_damage_is_named(tmp_path, kind):
  manifest.write(tmp_path, FINISHED)
  kind(tmp_path / 'manifest.json')
  refused(tmp_path)


def test_an_edit_is_noticed(tmp_path):
  manifest.write(tmp_path, FINISHED)
  path = tmp_path / 'manifest.json'
  path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
  assert 'not what was written' in refused(tmp_path)


def test_a_file_without_a_seal_is_refused(tmp_path):
  files.write_json(tmp_path / 'manifest.json', plain())
  refused(tmp_path)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'round': '1'}, 'Expected `int`, got `str` - at `$.round`'),
    ({'seed': None}, 'Expected `int`, got `null` - at `$.seed`'),
    ({'image_size': 0}, '$.image_size'),
    ({'counts': [3, 3]}, '$.counts'),
    ({'shards': 3}, '$.shards'),
    ({'shards': [{'file': 'a'}]}, '$.shards[0]'),
    ({'sampler': {'steps': 3, 'colour': 'blue'}}, 'unknown field `colour`'),
    ({'checkpoint': {'step': 40}}, '$.checkpoint'),
    ({'complete': 'yes'}, '$.complete'),
    ({'made_by': 'hand'}, 'unknown field `made_by`'),
  ],
)
def test_another_type_is_refused_even_with_a_seal(tmp_path, change, said):
  files.write_json(tmp_path / 'manifest.json', plain() | change, seal=True)
  assert said in refused(tmp_path)


@pytest.mark.parametrize(
  'key', ['round', 'class_names', 'counts', 'sampler', 'checkpoint', 'complete', 'shards', 'files']
)
def test_a_manifest_that_lacks_something_is_refused(tmp_path, key):
  files.write_json(tmp_path / 'manifest.json', {k: v for k, v in plain().items() if k != key}, seal=True)
  assert f'missing required field `{key}`' in refused(tmp_path)


@pytest.mark.parametrize(
  'name',
  ['../other', '/etc/passwd', 'synthetic-train.array_record-00002-of-00005', 'round_1/x', '', '..', 'a\0b'],
)
def test_a_foreign_file_is_no_shard(tmp_path, name):
  content = plain()
  content['shards'][2]['file'] = name
  files.write_json(tmp_path / 'manifest.json', content, seal=True)
  assert 'is no shard of this round' in refused(tmp_path)


@pytest.mark.parametrize('name', ['../other', '/etc/passwd', 'a\\b', '', '.', '..', 'manifest.json', 'a\0b'])
def test_a_foreign_file_is_none_of_the_others(tmp_path, name):
  content = plain()
  content['files'][name] = {'bytes': 1, 'sha256': '0'}
  files.write_json(tmp_path / 'manifest.json', content, seal=True)
  assert 'is no file of this round' in refused(tmp_path)


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('first', 1),
    ('count', 1),
    ('label', 0),
    ('class', 'a'),
    ('seed', 1),
    ('checkpoint_step', 41),
    ('config_hash', '4'),
  ],
)
def test_a_shard_must_be_the_one_of_the_plan(tmp_path, field, value):
  content = plain()
  content['shards'][2][field] = value
  files.write_json(tmp_path / 'manifest.json', content, seal=True)
  assert 'is no shard of this round' in refused(tmp_path)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'shards': FINISHED.shards[:3]}, 'shards are missing'),
    ({'shards': (*FINISHED.shards[:3], FINISHED.shards[2])}, 'shards are missing or listed twice'),
    ({'files': {}}, 'a complete round has other files'),
    ({'complete': False}, 'only such a one'),
    ({'counts': {'a': 3}}, 'counts must'),
    ({'counts': {'b': 3, 'a': 3}}, 'counts must'),
    ({'counts': {'a': 3, 'b': 2}}, 'counts must'),
    ({'class_names': (), 'counts': {}}, 'counts must'),
    ({'shard_size': 0}, 'shard_size must be at least 1'),
    ({'counts': {'a': 0, 'b': 0}}, 'per_class must be at least 1'),
  ],
)
def test_fields_that_contradict_each_other_are_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    msgspec.structs.replace(FINISHED, **changes)


def test_an_unfinished_round_may_lack_shards(tmp_path):
  begun = msgspec.structs.replace(FINISHED, complete=False, files={}, shards=FINISHED.shards[1:3])
  manifest.write(tmp_path, begun)
  assert manifest.read(tmp_path) == begun


def test_the_entry_of_a_shard():
  entry = FINISHED.entry(FINISHED.plan.shards()[1], Fingerprint(bytes=5, sha256='abc'))
  assert entry == ShardEntry(
    file='synthetic-train.array_record-00001-of-00004', class_name='a', label=0, first=2, count=1, seed=0,
    checkpoint_step=40, config_hash='0123', bytes=5, sha256='abc',
  )  # fmt: skip


def test_settings_of_a_sampler_can_be_a_key():
  assert len({SamplerSettings(), SamplerSettings(steps=250), SamplerSettings(interval=(0, 500))}) == 2
  with pytest.raises(TypeError, match='colour'):
    SamplerSettings(colour='blue')
  assert CheckpointMark(step=1, ema_rate=0.5, split_hash='a') != CheckpointMark(
    step=2, ema_rate=0.5, split_hash='a'
  )
