"""The prepared data: what was written is read, and what does not fit together is refused. See also test_prepare.py."""

import json

import msgspec
import numpy as np
import pytest
from helpers import damage, tiny

from fetal_jax.data import prepared, records, splits
from fetal_jax.runtime import files
from fetal_jax.runtime.errors import DamagedFile, UserError

NAMES = [f'image_{i}' for i in range(10)]
LABELS = [0] * 5 + [1] * 5


@pytest.fixture
def workdir(tmp_path):
  """Ten images in two classes, each of a patient of its own."""
  folder = tmp_path / 'data'
  folder.mkdir()
  images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
  table = records.make(NAMES, LABELS, NAMES, ('round', 'square'))
  split = splits.Split(np.array([0, 1, 2, 5, 6, 7]), np.array([3, 8]), np.array([4, 9]))
  np.save(folder / 'images.npy', images)
  records.write_csv(folder / 'records.csv', table)
  prepared.write_info(
    tmp_path,
    tiny.split_file(
      split_hash=splits.split_hash(table, split),
      images_sha256=files.sha256(folder / 'images.npy'),
      records_sha256=files.sha256(folder / 'records.csv'),
    ),
  )
  return tmp_path


def change(workdir, **changes):
  prepared.write_info(workdir, msgspec.structs.replace(prepared.read_info(workdir), **changes))


def test_what_is_written_is_read(workdir):
  data = prepared.load(workdir)
  assert data.images.shape == (10, 8, 8, 1)
  assert data.records.names.tolist() == NAMES
  assert data.split.test.tolist() == [4, 9]
  assert data.info.class_names == ('round', 'square')
  assert prepared.read_info(workdir) == data.info


def test_settings_that_do_not_count_are_none(workdir):
  content = json.loads((workdir / 'data' / 'split.json').read_text())
  assert (content['phantom_images'], content['path'], content['test_fraction']) == (10, None, None)


@pytest.mark.parametrize('name', prepared.RESULTS)
@pytest.mark.parametrize('kind', damage.KINDS)
def test_damage_is_named(workdir, name, kind):
  kind(workdir / 'data' / name)
  with pytest.raises(UserError, match=rf'{name}: .*run --stage=prepare (first|again)') as error:
    prepared.load(workdir)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'changes', [{'test': [4, 8], 'validation': [3, 9]}, {'test': [4, 99]}, {'class_names': ('square', 'cubic')}]
)
def test_parts_that_do_not_fit_together_are_refused(workdir, changes):
  change(workdir, **changes)
  with pytest.raises(UserError, match=r'damaged .*; delete the folder and run --stage=prepare again'):
    prepared.load(workdir)


@pytest.mark.parametrize(
  ('key', 'value'), [('num_images', '10'), ('train', {'0': 1}), ('totals', None), ('colour', 'blue')]
)
def test_another_type_is_refused_even_with_a_seal(workdir, key, value):
  content = files.read_json(workdir / 'data' / 'split.json')
  files.write_json(workdir / 'data' / 'split.json', content | {key: value}, seal=True)
  with pytest.raises(DamagedFile, match=rf'split\.json: damaged .*{key}'):
    prepared.read_info(workdir)
