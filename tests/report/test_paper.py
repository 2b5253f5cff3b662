"""The paper's figures add up, and are about regimes and classifiers that this project knows."""

from fetal_jax import models
from fetal_jax.report import paper
from fetal_jax.train.regimes import REGIMES


def test_table_1_is_the_whole_data_set():
  assert [sum(counts[side] for counts in paper.TABLE_1.values()) for side in (0, 1)] == [9923, 2477]
  assert 9923 + 2477 == 12_400  # images of FETAL_PLANES_DB


def test_table_2_is_30000_images_a_round():
  assert paper.TABLE_2_PER_CLASS * len(paper.TABLE_1) == 30_000
  assert paper.TABLE_2_ROUNDS == 2


def test_every_model_and_regime_is_known():
  assert set(paper.MODELS) <= set(models.CLASSIFIERS)
  assert set(paper.REGIMES) == set(REGIMES)
  for model in paper.MODELS.values():
    assert set(model.accuracy) <= set(paper.REGIMES)
    assert set(model.recall) <= set(paper.REGIMES)


def test_figures_are_percentages_in_the_papers_order():
  for model in paper.MODELS.values():
    assert all(50 < value < 100 for value in model.accuracy.values())
  assert paper.MODELS['vit_b_32'].accuracy == {
    'real': 75.5, 'synth_r1': 83.6, 'synth_r1_then_real': 89.6, 'synth_r1_plus_real': 88.3, 'synth_r12': 88.4,
    'synth_r12_then_real': 90.8,
  }  # fmt: skip
  assert 'synth_r1_plus_real' not in paper.MODELS['resnet50'].accuracy
