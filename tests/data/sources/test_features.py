"""The features that every source has."""

from fetal_jax.data.sources.features import example, features


def test_an_example_fits_the_features():
  found = features(('round', 'square'))
  about = example(b'\x89PNG', label=1, name='a', patient='7', official_train=True)
  assert set(about) == set(found)
  assert about['official_train'] == 1
  assert found['label'].names == ['round', 'square']


def test_what_is_not_known_is_said_so():
  about = example(b'\x89PNG', label=0, name='a', patient='7')
  assert (about['brain_plane'], about['operator'], about['machine'], about['official_train']) == (
    '',
    '',
    '',
    -1,
  )
