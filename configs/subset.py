"""A small run on real planes, on a laptop: the flow of the paper with a subset or a sample of FETAL_PLANES_DB.

    python -m fetal_jax.main --config=configs/subset.py --workdir=runs/subset --config.data.path=ARCHIVE.zip

ARCHIVE.zip (or a folder) has the layout of the published one: FETAL_PLANES_DB_data.csv and Images/. 32 px, the data
set's own patient-disjoint columns, all five families at reduced sizes, all regimes. On two CPU cores 24 min for
1,351 images, 2.1 GiB; docs/results/ has what it found.
"""

import pathlib

import ml_collections

from fetal_jax.config import load_file


def get_config() -> ml_collections.ConfigDict:
  config = load_file(str(pathlib.Path(__file__).parent / 'demo.py'))
  config.name = 'subset'
  config.unlock()
  config.data.update(source='fetal_planes_db', split='official')
  config.diffusion.update(
    steps=5000, ema_rates=(0.999,), eval_every=500, preview_every=1000, checkpoint_every=500
  )
  config.sample.update(per_class=150, steps=50, batch_size=50)
  config.classify.update(
    regimes=(
      *config.classify.regimes,
      'synth_r12_kept',
      'synth_r12_kept_then_real',
    ),
    curve=(300, 600, 1200),
    curve_models=('resnet50', 'vit_b_32'),
    epochs=8,
    pretrain_epochs=4,
    batch_size=16,
    num_seeds=3,
  )
  return config
