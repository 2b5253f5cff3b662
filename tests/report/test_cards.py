"""Cards: front matter that parses, and a body that says what was found, or that nobody has looked."""

import re

import ml_collections
import pytest
import yaml
from helpers import fake_workdir

from fetal_jax.report import cards, stage
from fetal_jax.runtime import files, run

CONFIG = ml_collections.ConfigDict({'report': {'show_real_images': False}})


def _written(workdir):
  stage.run(CONFIG, workdir)
  texts = {}
  for card in stage.CARDS:
    text = (workdir / 'report' / 'cards' / f'{card}.md').read_text(encoding='utf-8')
    _, front, body = re.split(r'^---\n', text, maxsplit=2, flags=re.MULTILINE)
    assert '\n\n\n' not in body
    assert body.endswith('\n')
    assert not re.search(r'[^\n]\n#', body), 'a heading without a blank line above'
    texts[card] = yaml.safe_load(front), body
  return texts


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(
    tmp_path_factory.mktemp('cards'),
    models=('resnet50',),
    regimes=('real', 'synth_r12_then_real'),
    evaluated=True,
  )


@pytest.fixture(scope='module')
def written(workdir):
  return _written(workdir)


def test_front_matter_is_what_hugging_face_knows(written):
  front, _ = written['dataset']
  assert front['license'] == 'apache-2.0'  # of the phantom; the code's
  assert front['size_categories'] == ['n<1K']
  assert 'image-classification' in front['task_categories']
  assert 'synthetic' in front['tags']
  front, _ = written['model']
  assert front['pipeline_tag'] == 'image-classification'
  assert front['metrics'] == ['accuracy']


def test_body_has_the_runs_own_figures(workdir, written):
  results = files.read_json(workdir / 'report' / 'results.json')
  split_hash = results['data']['split_hash']
  sentences = results['summary']['sentences']
  score = results['comparisons']['models']['resnet50']['regimes']['real']['scores']['accuracy']
  for _, body in written.values():
    assert split_hash in body
    assert sentences[1] in body
    assert sentences[2] in body
    assert 'not for care' in body.lower()
    assert 'the training side of this split alone' in body
    assert 'run --stage=evaluate' not in body
  assert f'| {100 * score["low"]:.1f} to {100 * score["high"]:.1f} |' in written['model'][1]
  assert '| abdomen | 8 | 8 |' in written['dataset'][1]
  assert 'guidance_scale 0.5' in written['dataset'][1]


def test_what_nobody_has_looked_at_is_said(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), num_images=60, image_size=8)
  for _, body in _written(tmp_path).values():
    assert 'Whether anything was copied has not been examined: run --stage=evaluate.' in body
    assert 'Not measured: the evaluate stage has not been run' in body
    assert 'has not been checked: run --stage=evaluate' in body


def test_an_empty_workdir_has_cards_that_say_so(tmp_path):
  texts = _written(tmp_path)
  assert texts['dataset'][0]['license'] == 'other'
  assert 'no synthetic round is finished' in texts['dataset'][1]
  assert 'No classifier has been trained yet' in texts['model'][1]


def test_real_planes_bring_their_licence_and_citation(tmp_path):
  fake_workdir.make(tmp_path, models=(), num_images=60, image_size=8)
  for name in ('data/split.json', 'config.json'):
    path = tmp_path / name
    path.write_text(path.read_text().replace('fetal_phantom', 'fetal_planes_db'))
  for front, body in _written(tmp_path).values():
    assert front['license'] == 'cc-by-4.0'
    assert 'FETAL_PLANES_DB is licensed CC BY 4.0' in body
    assert 'doi       = {10.5281/zenodo.3904280}' in body


def test_names_cannot_break_the_front_matter(tmp_path):
  fake_workdir.make(tmp_path, models=(), num_images=60, image_size=8)
  asked = run.read(tmp_path)
  run.write(tmp_path, run.RunFile({**asked.config, 'name': 'a: "b"\n---\nlicense: mit <é>'}, asked.versions, asked.git_commit))
  front, _ = _written(tmp_path)['dataset']
  assert front['pretty_name'] == 'Synthetic fetal ultrasound planes, a: "b"\n---\nlicense: mit <é>'
  assert front['license'] == 'apache-2.0'
