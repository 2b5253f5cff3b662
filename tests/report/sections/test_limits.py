"""Limits that hold for every run, and those of this one."""

import msgspec
from helpers import fake_run, fake_workdir

from fetal_jax.report import run as run_lib
from fetal_jax.report.sections.limits import limits, section


def _has(run, words):
  return any(words in limit for limit in limits(run))


def test_limits_of_every_run():
  found = limits(fake_run.make())
  assert found[0].startswith('For research only.')
  assert len(found) == 3
  assert section(fake_run.make()).blocks[0].items == found


def test_whether_copies_were_looked_for():
  assert _has(fake_run.make(), 'run --stage=evaluate.')
  evaluated = fake_run.make(evaluation=fake_run.evaluation())
  assert _has(evaluated, 'it does not prove that nobody can be recognised')
  assert not _has(evaluated, 'run --stage=evaluate.')


def test_one_seed_is_a_limit():
  runs = [fake_run.classifier('real'), fake_run.classifier('synth_r1')]
  assert _has(fake_run.make(runs=runs), 'One seed: ')
  assert not _has(fake_run.make(runs=[*runs, fake_run.classifier('real', seed=1)]), 'One seed: ')


def test_the_papers_protocol_is_a_limit():
  runs = [fake_run.classifier('real', protocol='paper')]
  assert _has(fake_run.make(runs=runs), 'best of many looks')


def test_longer_training_is_a_limit():
  runs = [
    fake_run.classifier('real', steps=100, real_images=9),
    fake_run.classifier('synth_r1_plus_real', steps=150, real_images=9),
  ]
  assert _has(fake_run.make(runs=runs), 'up to 1.5 times the optimiser steps')


def test_what_the_paper_leaves_open_is_a_limit_where_its_figures_are_shown():
  said = 'The paper does not state the rule of its split'
  assert _has(fake_run.make(config={'data': {'source': 'fetal_planes_db'}}), said)
  assert not _has(fake_run.make(config={'data': {'source': 'image_folder'}}), said)


def test_unknown_patients_are_a_limit(tmp_path):
  data = run_lib.read(fake_workdir.make(tmp_path, models=(), num_images=60, image_size=8)).data
  assert _has(fake_run.make(data=data), 'The split is by image, not by patient')
  unknown = fake_run.make(data=msgspec.structs.replace(data, patients_known=False))
  assert _has(unknown, 'Which images show the same patient is not known')
