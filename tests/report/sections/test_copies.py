"""What is said and shown of copies; and real images of the closest pairs, shown or greyed out without fail."""

import io

import msgspec
import numpy as np
import pytest
from helpers import fake_run, fake_workdir
from PIL import Image

from fetal_jax.evaluate.results import Histogram
from fetal_jax.report import charts
from fetal_jax.report import run as run_lib
from fetal_jax.report.page import Heading, Pictures, Table, Text
from fetal_jax.report.sections import copies


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return fake_workdir.make(
    tmp_path_factory.mktemp('copies'), models=(), evaluated=True, copies=12, source='fetal_planes_db'
  )


@pytest.fixture(scope='module')
def run(workdir):
  return run_lib.read(workdir)


@pytest.fixture(scope='module')
def found(run):
  return run.evaluation.memorisation


def _said(**spaces):
  return copies.was_it_copied(fake_run.make(evaluation=fake_run.evaluation(**spaces)))


# MARK: Sentences


def test_nobody_has_looked_for_copies():
  text = copies.was_it_copied(fake_run.make())
  assert text == 'Whether anything was copied has not been examined: run --stage=evaluate.'


def test_more_near_images_than_by_chance():
  text = _said(pixel=fake_run.space(near=fake_run.near(0.05, copied=True)))
  assert text == (
    'Training images were copied, or nearly: of 300 synthetic images 5.0 % (95 % interval 3.0 to 8.0 %) in pixels are '
    'nearer to a training image than 99.0 % of fresh real images are, where 1.0 % would be by chance; look at the closest '
    'pairs.'
  )


def test_only_the_spaces_that_show_copies_are_named():
  text = _said(
    pixel=fake_run.space(near=fake_run.near(0.012, copied=False)),
    feature=fake_run.space('feature', near=fake_run.near(0.05, copied=True)),
  )
  assert 'of 300 synthetic images 5.0 % (95 % interval 3.0 to 8.0 %) in the encoder’s features are' in text


def test_no_sign_of_copying():
  text = _said(pixel=fake_run.space(near=fake_run.near(0.012, copied=False)))
  assert text == (
    'No sign of copying was found: of 300 synthetic images 1.2 % (95 % interval 3.0 to 8.0 %) in pixels are nearer to a '
    'training image than 99.0 % of fresh real images are, where 1.0 % would be by chance.'
  )
  searched = fake_run.space(near=fake_run.near(0.012, copied=False), duplicates=fake_run.duplicates(0))
  assert _said(pixel=searched).endswith('would be by chance, and none is a near duplicate.')


def test_too_few_held_out_images_to_know():
  text = _said(pixel=fake_run.space(nearer=0.374))
  assert text.startswith('Whether anything was copied cannot be said: 40 held-out images are too few')
  assert 'the nearer one with a chance of 37 % in pixels, where 50 % would say nothing' in text


def test_a_copying_generator_is_called_one(run):
  text = copies.was_it_copied(run)
  assert text.startswith('Training images were copied: of 96 synthetic images 12 in pixels')


def test_held_out_images_of_known_patients_are_a_caveat(run):
  assert copies.caveat(run) == ''
  evaluation = fake_run.evaluation()
  known = msgspec.structs.replace(evaluation.memorisation, heldout_unseen=False)
  changed = fake_run.make(evaluation=msgspec.structs.replace(evaluation, memorisation=known))
  assert 'copies stand out less' in copies.caveat(changed)


def test_of_unknown_patients_nobody_knows_whether_held_out_images_are_fresh():
  evaluation = fake_run.evaluation(pixel=fake_run.space(near=fake_run.near(0.05, copied=False)))
  unknown = msgspec.structs.replace(evaluation.memorisation, heldout_unseen=None)
  run = fake_run.make(evaluation=msgspec.structs.replace(evaluation, memorisation=unknown))
  assert copies.caveat(run).startswith('The patients are unknown: held-out images may show somebody whom')
  assert 'nearer to a training image than 99.0 % of held-out real images are' in copies.was_it_copied(run)
  known = fake_run.make(evaluation=evaluation)
  assert 'nearer to a training image than 99.0 % of fresh real images are' in copies.was_it_copied(known)


# MARK: Table


def _row(table, title):
  return dict(zip(table.columns, next(r for r in table.rows if r[0].text == title), strict=True))


def test_copies_are_seen_in_both_spaces(found):
  table = copies.table(found)
  for title, name in (('Pixels', 'pixel'), ('Features', 'feature')):
    row = _row(table, title)
    assert row['Compared in'].small == 'copies'
    assert row['Near'].text == f'{100 * found.spaces[name].near.share:.1f} %'
    assert float(row['Near'].text[:-2]) >= 12.5  # 12 of 96 are copies
    assert row['Expected of fresh images'].text == '0.8 %'  # 1 of 121
  assert table.notes[0] == '96 synthetic, 60 training, 120 held-out images.'


def test_a_space_that_was_not_examined_has_a_note():
  evaluation = fake_run.evaluation(pixel=fake_run.space(c_t=-2.5, nearer=0.6))
  table = copies.table(evaluation.memorisation)
  (row,) = table.rows
  assert [cell.text for cell in row] == ['Pixels', '–', '–', '–', '–', '–', '–', '−2.5', '60 %', '–']
  assert row[0].small == 'cannot be said'
  assert 'Features: not examined, unknown why.' in table.notes


# MARK: Pictures


def test_histograms_are_shares_with_the_threshold():
  histogram = Histogram(edges=[0.0, 1.0, 2.0], synthetic=[1, 3], heldout=[0, 8])
  axes = copies.figure(histogram, 0.7, charts.LIGHT).axes[0]
  steps = [patch.get_data().values.tolist() for patch in axes.patches]
  assert steps == [[0, 100], [0, 100], [25, 75]]
  assert axes.get_lines()[0].get_xdata() == [0.7, 0.7]


def test_a_histogram_for_each_space(found):
  pictures = copies.ratios(found)
  assert [p.file for p in pictures] == ['copies_pixel.svg', 'copies_feature.svg']
  assert all('the median is' in p.alt for p in pictures)


def test_pairs_are_shown_as_they_were_drawn(workdir, found):
  shown = copies.pairs(found, workdir, show_real_images=True)
  for name, picture in zip(('pixel', 'feature'), shown, strict=True):
    assert picture.data['light'] == (workdir / 'evaluate' / f'pairs_{name}.png').read_bytes()
    assert 'The 5 synthetic images' in picture.alt


def test_real_images_of_an_older_picture_are_greyed_out(workdir, found):
  with Image.open(workdir / 'evaluate' / 'pairs_pixel.png') as drawn:
    before = np.array(drawn)
  picture = copies.pairs(found, workdir, show_real_images=False)[0]
  with Image.open(io.BytesIO(picture.data['light'])) as hidden:
    after = np.array(hidden)
  assert 'not shown' in picture.alt
  side, gap = 96, 2
  left = before.shape[1] - 2 * (side + gap)
  for row in range(5):
    top = gap + row * (side + gap)
    for start in (left, left + side + gap):
      assert (after[top : top + side, start : start + side] == 128).all()
      assert np.ptp(before[top : top + side, start : start + side]) > 100
  np.testing.assert_array_equal(after[:, :left], before[:, :left])  # synthetic images and labels stay


def test_a_picture_of_another_layout_is_left_out_rather_than_shown(tmp_path):
  fake_workdir.make(tmp_path, models=(), evaluated=True)
  found = run_lib.read(tmp_path).evaluation.memorisation
  Image.new('L', (300, 301)).save(tmp_path / 'evaluate' / 'pairs_pixel.png')
  hidden = copies.pairs(found, tmp_path, show_real_images=False)
  assert [p.file for p in hidden] == ['closest_pairs_feature.png']
  assert len(copies.pairs(found, tmp_path, show_real_images=True)) == 2


def test_the_section_has_its_blocks_in_order(workdir, run):
  blocks = copies.section(run, workdir, show_real_images=False).blocks
  assert [type(block) for block in blocks] == [Text, Table, Pictures, Heading, Pictures]


def test_closest_pairs_of_planes_db_have_the_line_where_they_are_shown(workdir, run):
  *_, line = copies.section(run, workdir, show_real_images=True).blocks
  assert line.text.startswith('Real images: FETAL_PLANES_DB by X. P. Burgos-Artizzu, D. Coronado-Gutiérrez, ')
  assert 'licence CC BY 4.0' in line.text
  own = msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, source='image_folder'))
  assert isinstance(copies.section(own, workdir, show_real_images=True).blocks[-1], Pictures)


def test_images_that_nobody_has_examined_are_named(run, workdir):
  (text,) = copies.section(fake_run.make(rounds=run.rounds), workdir, show_real_images=True).blocks
  assert text.text.endswith('has not been examined: run --stage=evaluate.')


def test_without_images_there_is_no_section(workdir):
  assert copies.section(fake_run.make(), workdir, show_real_images=True) is None
