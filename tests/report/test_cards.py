"""Cards: front matter that parses, and a body that says what was found, or that nobody has looked."""

import re

import msgspec
import pytest
import yaml
from helpers import fake_run, fake_workdir

from fetal_jax.report import cards
from fetal_jax.report import run as run_lib
from fetal_jax.report.sections import copies, summary


def _parsed(run):
  texts = {}
  for card, text in cards.texts(run).items():
    _, front, body = re.split(r'^---\n', text, maxsplit=2, flags=re.MULTILINE)
    assert '\n\n\n' not in body
    assert body.endswith('\n')
    assert not re.search(r'[^\n]\n#', body), 'a heading without a blank line above'
    texts[card] = yaml.safe_load(front), body
  return texts


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('cards')
  regimes = ('real', 'synth_r12_then_real')
  return run_lib.read(fake_workdir.make(workdir, models=('resnet50',), regimes=regimes, evaluated=True))


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """Data and rounds alone."""
  workdir = tmp_path_factory.mktemp('small')
  return run_lib.read(
    fake_workdir.make(workdir, models=(), num_images=60, image_size=8, source='fetal_planes_db')
  )


@pytest.fixture(scope='module')
def written(run):
  return _parsed(run)


def test_front_matter_is_what_hugging_face_knows(written):
  front, _ = written['dataset']
  assert front['license'] == 'apache-2.0'  # of the phantom; the code's
  assert front['size_categories'] == ['n<1K']
  assert 'image-classification' in front['task_categories']
  assert 'synthetic' in front['tags']
  front, _ = written['model']
  assert front['pipeline_tag'] == 'image-classification'
  assert front['metrics'] == ['accuracy']


def test_body_has_the_runs_own_figures(run, written):
  for _, body in written.values():
    assert run.data.split_hash in body
    assert summary.did_it_help(run) in body
    assert copies.was_it_copied(run) in body
    assert 'not for care' in body.lower()
    assert 'the training side of this split alone' in body
    assert 'run --stage=evaluate' not in body
  score = run.comparisons.models['resnet50'].regimes['real'].scores['accuracy']
  assert f'| {100 * score.low:.1f} to {100 * score.high:.1f} |' in written['model'][1]
  assert '| abdomen | 8 | 8 |' in written['dataset'][1]
  assert 'guidance_scale 0.5' in written['dataset'][1]
  agreed = f'{100 * run.evaluation.agreement.accuracy:.1f}'
  assert f'sees the class that was asked for in {agreed} % of the images.' in written['dataset'][1]


def test_what_nobody_has_looked_at_is_said(small):
  for _, body in _parsed(small).values():
    assert 'Whether anything was copied has not been examined: run --stage=evaluate.' in body
    assert 'Not measured: the evaluate stage has not been run' in body
    assert 'has not been checked: run --stage=evaluate' in body


def test_a_run_of_which_nothing_is_known_has_cards_that_say_so():
  texts = _parsed(fake_run.make())
  assert texts['dataset'][0]['license'] == 'other'
  assert 'no synthetic round is finished' in texts['dataset'][1]
  assert 'No classifier has been trained yet' in texts['model'][1]


def _of(run, **about):
  return msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, **about))


def test_real_planes_bring_their_licence_and_citation(small):
  for front, body in _parsed(small).values():
    assert front['license'] == 'cc-by-4.0'
    assert {'medical', 'ultrasound', 'fetal'} < set(front['tags'])
    assert 'FETAL_PLANES_DB is licensed CC BY 4.0' in body
    assert 'doi       = {10.5281/zenodo.3904280}' in body


def test_drawn_planes_are_called_so(small):
  for front, body in _parsed(_of(small, source='fetal_phantom')).values():
    assert front['license'] == 'apache-2.0'
    assert 'planes drawn by fetal' in body
    assert not {'medical', 'ultrasound', 'fetal'} & set(front['tags'])


def test_cards_of_ones_own_images_name_no_other_data(small):
  for front, body in _parsed(_of(small, source='image_folder')).values():
    assert front['license'] == 'other'
    assert not {'medical', 'ultrasound', 'fetal'} & set(front['tags'])
    assert 'ultrasound' not in f'{front}'.lower()
    assert not re.search('ultrasound|planes|fetal (?!plane classification)|burgos', body, re.IGNORECASE)


def test_unknown_patients_are_not_counted(small):
  known = _parsed(small)['dataset'][1]
  assert f'images of {small.data.patients["train"]} patients; test side: ' in known
  unknown = _of(
    small, patients_known=False, images_of_unknown_patients=60, patients=None, test_patient_overlap=None
  )
  for _, body in _parsed(unknown).values():
    assert re.search(r'- Training side: \d+ images; test side: \d+ images; patients: unknown\n', body)
    assert 'The patients of all 60 images are unknown.' in body
    assert not re.search(r'\d patients', body)


def test_names_cannot_break_the_front_matter(small):
  named = msgspec.structs.replace(small, name='a: "b"\n---\nlicense: mit <é>')
  front, _ = _parsed(named)['dataset']
  assert front['pretty_name'] == 'Synthetic fetal ultrasound planes, a: "b"\n---\nlicense: mit <é>'
  assert front['license'] == 'cc-by-4.0'
