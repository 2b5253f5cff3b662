"""The page as its readers get it: complete, self-contained, escaped, and honest about what is missing."""

import base64
import html
import html.parser
import json
import re
import shutil

import ml_collections
import msgspec
import pytest
from helpers import fake_workdir

from fetal_jax.report import stage
from fetal_jax.runtime import files
from fetal_jax.train import results as metrics_lib

CONFIG = ml_collections.ConfigDict({'report': {'show_real_images': True}})
HIDING = ml_collections.ConfigDict({'report': {'show_real_images': False}})


class _Page(html.parser.HTMLParser):
  """Collects the elements of a page and checks that every tag is closed in order."""

  VOID = ('meta', 'img', 'source', 'link', 'br')

  def __init__(self, text: str):
    super().__init__()
    self.elements: list[tuple[str, dict]] = []
    self.open: list[str] = []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def all(self, tag: str) -> list[dict]:
    return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  regimes = ('real', 'synth_r1', 'synth_r1_then_real')
  return fake_workdir.make(
    tmp_path_factory.mktemp('page'),
    models=('resnet50',),
    regimes=regimes,
    num_seeds=2,
    evaluated=True,
    swept=True,
  )


@pytest.fixture(scope='module')
def report(workdir):
  stage.run(CONFIG, workdir)
  return workdir / 'report'


@pytest.fixture(scope='module')
def text(report):
  return (report / 'index.html').read_text(encoding='utf-8')


def test_page_is_self_contained(text):
  parsed = _Page(text)
  assert not parsed.all('script')
  assert not parsed.all('link')
  for attributes in [*parsed.all('img'), *parsed.all('source')]:
    uri = attributes.get('src') or attributes['srcset']
    base64.b64decode(re.fullmatch(r'data:image/(?:png|svg\+xml);base64,(\S+)', uri)[1], validate=True)
  # No address but those of the SVG namespaces inside the pictures.
  assert not re.search(r'https?://', text)
  assert all(a['href'].startswith('#') for a in parsed.all('a'))


def test_page_is_accessible(text):
  parsed = _Page(text)
  assert parsed.all('html')[0]['lang'] == 'en'
  assert all(attributes['alt'] for attributes in parsed.all('img'))
  assert parsed.all('th')
  assert all(attributes.get('scope') in ('row', 'col') for attributes in parsed.all('th'))
  ids = [attributes['id'] for _, attributes in parsed.elements if 'id' in attributes]
  assert len(ids) == len(set(ids))
  assert {a['href'][1:] for a in parsed.all('a')} <= set(ids)
  scrolling = [a for a in parsed.all('div') if a.get('class') == 'scroll']
  assert len(scrolling) == len(parsed.all('table'))
  assert all(a['tabindex'] == '0' and a['aria-label'] for a in scrolling)


def test_page_says_what_matters(text):
  for needle in (
    'Table 5 · ResNet50', 'Table 1 · Real images', 'Table 2 · Synthetic images', 'Not for medical use',
    'patients are on both sides of the split', 'Were images copied?', 'Fidelity and diversity', '3.11.7',
    'Difference in test accuracy to real images only', '--config.sample.method=', 'The closest pairs', '4 h 12 min', 'prefers-color-scheme: dark',
  ):  # fmt: skip
    assert needle in text
  assert 'What is missing' not in text


def test_markdown_names_files_that_are_there(report):
  text = (report / 'report.md').read_text(encoding='utf-8')
  named = re.findall(r'\]\((figures/[^)]+)\)', text)
  assert named
  assert {f'figures/{path.name}' for path in (report / 'figures').iterdir()} == set(named)
  assert '| Regime | Paper: accuracy |' in text
  assert '\n\n\n' not in text


def test_json_is_strict_and_complete(report):
  def refuse(constant):
    raise ValueError(constant)

  results = json.loads((report / 'results.json').read_text(), parse_constant=refuse)
  assert len(results['runs']) == 6
  assert results['runs'][0]['scores']['confusion']
  assert results['summary']['sentences']
  assert len((report / 'results.csv').read_text().splitlines()) == 7


def test_done_work_is_not_done_again_until_something_changes(workdir, report):
  path = report / 'index.html'
  first = path.stat().st_mtime_ns
  assert not stage.run(CONFIG, workdir)
  assert path.stat().st_mtime_ns == first
  folder = workdir / 'classify' / 'resnet50' / 'real' / 'seed_0'
  before = metrics_lib.read(folder)
  metrics_lib.write(folder, msgspec.structs.replace(before, test_accuracy_last=0.1234))
  assert stage.run(CONFIG, workdir)
  assert path.stat().st_mtime_ns != first
  assert '0.1234' in (report / 'results.csv').read_text()
  metrics_lib.write(folder, before)


def test_real_images_can_be_left_out_and_old_ones_go(tmp_path):
  fake_workdir.make(tmp_path, models=(), rounds=0, class_names=('head', 'heart'), num_images=60)
  stage.run(CONFIG, tmp_path)
  figures = tmp_path / 'report' / 'figures'
  assert {path.name for path in figures.glob('real_*')} == {'real_0_head.png', 'real_1_heart.png'}
  stage.run(HIDING, tmp_path)
  assert not list(figures.glob('real_*'))
  text = (tmp_path / 'report' / 'index.html').read_text()
  assert text.count('Real images are not shown here') == 2
  assert 'alt="6 real images' not in text


def test_an_empty_workdir_gives_a_page_that_says_so(tmp_path):
  stage.run(CONFIG, tmp_path)
  text = (tmp_path / 'report' / 'index.html').read_text()
  _Page(text)
  assert 'Nothing has been done in this folder yet' in text
  assert 'run the prepare stage' in text
  assert (tmp_path / 'report' / 'results.csv').read_text().count('\n') == 1


def test_names_of_users_are_escaped(tmp_path):
  nasty = ('<script>alert(1)</script>', 'a|b & "c"', '$\\frac$', 'x' * 255, '脳 🧠', '_שלום_')
  fake_workdir.make(
    tmp_path,
    class_names=nasty,
    models=('resnet50',),
    regimes=('real',),
    num_images=60,
    image_size=8,
    rounds=1,
  )
  stage.run(CONFIG, tmp_path)
  text = (tmp_path / 'report' / 'index.html').read_text()
  assert not _Page(text).all('script')
  assert '&lt;script&gt;alert(1)&lt;/script&gt;' in text
  rows = [
    line for line in (tmp_path / 'report' / 'report.md').read_text().splitlines() if line.startswith('| a')
  ]
  assert rows[0].startswith(r'| a\|b & "c" | ')
  assert '| \\$\\\\frac\\$ | ' in (tmp_path / 'report' / 'report.md').read_text()


def test_models_and_regimes_that_the_paper_lacks(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real',), num_images=60, image_size=8)
  folder, other = (
    metrics_lib.RunName(*name, 0).folder(tmp_path) for name in (('resnet50', 'real'), ('my_net', 'twice'))
  )
  found = msgspec.structs.replace(metrics_lib.read(folder), model='my_net', regime='twice')
  other.parent.mkdir(parents=True)
  folder.rename(other)
  metrics_lib.write(other, found)
  stage.run(CONFIG, tmp_path)
  text = (tmp_path / 'report' / 'index.html').read_text()
  assert 'my_net' in text
  assert 'twice' in text
  assert 'Not finished for ResNet50: real (seed 0).' in text


def test_comparisons_and_audits_are_in_the_json(report):
  results = files.read_json(report / 'results.json')
  assert results['comparisons']['planned']['regime'] == 'synth_r1_then_real'
  assert (
    results['comparisons']['models']['resnet50']['regimes']['real']['scores']['accuracy']['low'] is not None
  )
  assert results['evaluation']['memorisation']['spaces']['pixel']['near']['copied'] is False
  assert results['sweep']['recommended']['flags']
  assert results['quality']['told_apart'] == 'told apart'
  assert len(results['summary']['sentences']) == 4


def test_the_page_opens_with_four_sentences(report, text):
  sentences = files.read_json(report / 'results.json')['summary']['sentences']
  opening = re.sub(r'<[^>]+>', '', text[text.index('id="summary"') : text.index('<nav')])
  opening = html.unescape(opening).replace('\xa0', ' ')
  for sentence in sentences:
    assert sentence in opening


def test_no_place_of_the_machine_is_told(report):
  for path in (*report.glob('*.*'), *report.glob('cards/*')):
    written = path.read_text(encoding='utf-8')
    assert '/home/somebody' not in written
    assert 'planes.zip' in (report / 'results.json').read_text()


def test_a_workdir_of_before_the_audits_names_them(tmp_path):
  fake_workdir.make(tmp_path, models=('resnet50',), regimes=('real', 'synth_r1_then_real'), num_images=60)
  stage.run(CONFIG, tmp_path)
  text = (tmp_path / 'report' / 'index.html').read_text()
  _Page(text)
  assert 'Fidelity, copies and leakage: evaluate/results.json is missing; run --stage=evaluate.' in text
  assert text.count('has not been examined:</strong> run --stage=evaluate.') == 1
  assert 'How near the synthetic images come to real ones has not been measured' in text
  assert 'id="sweep"' not in text
  assert 'How sure' in text


def test_pairs_are_greyed_out_where_real_images_are_not_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), num_images=60, evaluated=True)
  stage.run(HIDING, tmp_path)
  shown = (tmp_path / 'report' / 'figures' / 'closest_pairs_pixel.png').read_bytes()
  assert shown != (tmp_path / 'evaluate' / 'pairs_pixel.png').read_bytes()
  text = (tmp_path / 'report' / 'index.html').read_text()
  assert base64.b64encode(shown).decode() in text
  assert 'grey boxes stand for them' in text


def test_new_audits_make_a_new_page(tmp_path):
  fake_workdir.make(tmp_path, models=(), num_images=60)
  stage.run(CONFIG, tmp_path)
  fake_workdir.make(tmp_path, models=(), num_images=60, evaluated=True, copies=12)
  assert stage.run(CONFIG, tmp_path)
  assert 'Training images were copied' in (tmp_path / 'report' / 'index.html').read_text()


@pytest.fixture(scope='module')
def further(tmp_path_factory):
  """A report with a curve and a filter."""
  workdir = fake_workdir.make(
    tmp_path_factory.mktemp('further'), models=('resnet50',), regimes=('real', 'synth_r12', 'synth_r12_then_real'),
    curve=(12, 24), kept=('synth_r12_kept', 'synth_r12_kept_then_real'), num_images=60, image_size=8,
  )  # fmt: skip
  stage.run(CONFIG, workdir)
  return workdir


def test_curve_and_filter_have_their_sections(further):
  results = files.read_json(further / 'report' / 'results.json')
  assert len(results['summary']['sentences']) == 4
  assert [p['images'] for p in results['curve']['synthetic']['models']['resnet50']['points']] == [12, 24, 96]
  assert results['filter']['planned']['regime'] == 'synth_r12_kept_then_real'
  assert results['filter']['kept']['rounds']['1']['kept_per_class'] == [6] * 6
  text = (further / 'report' / 'index.html').read_text()
  parsed = _Page(text)
  assert {'#curve', '#filter'} <= {a['href'] for a in parsed.all('a')}
  ids = [attributes.get('id') for _, attributes in parsed.elements]
  assert {'curve-synthetic', 'curve-then-real', 'filter-changes', 'filter-classes'} <= set(ids)
  assert text.index('id="certainty"') < text.index('id="curve"') < text.index('id="filter"')
  alts = [image['alt'] for image in parsed.all('img')]
  for start in ('Test accuracy against the number', 'Synthetic images. Kept', 'Synthetic images. Dropped'):
    assert any(alt.startswith(start) for alt in alts)
  plain = html.unescape(text).replace('\xa0', ' ')
  markdown = (further / 'report' / 'report.md').read_text()
  for said in (
    'With synthetic images alone, test accuracy ', 'The filter kept 72 of 96 synthetic images', 'What the filter changed',
  ):  # fmt: skip
    assert said in plain
    assert said in markdown
  named = set(re.findall(r'\]\((figures/[^)]+)\)', markdown))
  assert named == {f'figures/{path.name}' for path in (further / 'report' / 'figures').iterdir()}
  assert {'figures/curve_synthetic.svg', 'figures/filter_dropped.png'} <= named
  assert '\n\n\n' not in markdown
  card = (further / 'report' / 'cards' / 'dataset.md').read_text()
  assert 'The filter kept 72 of 96 synthetic images' in card
  assert 'synthetic/kept.json lists them. This set holds all images.' in card


def test_further_regimes_alone_make_a_page(further, tmp_path):
  """Nothing but the curve has run: no table of the main regimes, and no error."""
  shutil.copytree(further / 'classify', tmp_path / 'classify')
  for path in (tmp_path / 'classify' / 'resnet50').iterdir():
    if not re.fullmatch(r'synth_\d+', path.name):
      shutil.rmtree(path)
  stage.run(CONFIG, tmp_path)
  text = (tmp_path / 'report' / 'index.html').read_text()
  _Page(text)
  assert 'id="accuracy"' not in text
  assert 'id="curve"' not in text
  assert 'no model has predictions for 3 numbers' in text
  assert len((tmp_path / 'report' / 'results.csv').read_text().splitlines()) == 3


def test_pages_without_curve_and_filter_say_nothing_of_them(report, text):
  assert 'id="curve"' not in text
  assert 'id="filter"' not in text
  assert 'Quality filter' not in (report / 'report.md').read_text()
  assert 'filter kept' not in (report / 'cards' / 'dataset.md').read_text()
