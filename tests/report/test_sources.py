"""What page and cards call the images of a run."""

import pytest
from helpers import fake_run

from fetal_jax.report import sources


@pytest.mark.parametrize(
  ('name', 'images', 'in_paper', 'licence', 'attributed'),
  [
    ('fetal_planes_db', 'fetal ultrasound planes', True, 'cc-by-4.0', True),
    ('fetal_phantom', 'drawn planes', False, 'apache-2.0', False),
    ('image_folder', 'images', False, 'other', False),
    ('', 'images', False, 'other', False),
  ],
)
def test_sources(name, images, in_paper, licence, attributed):
  found = sources.of(name)
  assert (found.images, found.in_paper, found.licence) == (images, in_paper, licence)
  assert ('CC BY 4.0' in found.attribution) == attributed


def test_drawings_are_called_drawings():
  assert 'planes which a program has drawn' in sources.of('fetal_phantom').lede
  assert 'say nothing about ultrasound' in sources.of('fetal_phantom').lede


def test_a_run_that_is_not_prepared_has_the_source_that_was_asked_for():
  assert sources.of_run(fake_run.make(config={'data': {'source': 'fetal_planes_db'}})).in_paper
  assert not sources.of_run(fake_run.make()).in_paper
