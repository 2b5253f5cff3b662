"""The same question asked of new patients, in a fraction of the time: patient-disjoint split, few-step sampling.

    python -m fetal_jax.main --config=configs/fast.py --workdir=runs/fast

FETAL_PLANES_DB at 128 px with the data set's own patient-disjoint columns, the width-128 ADM, 25 ancestral
steps instead of 250 (of the few-step samplers the nearest to real images in docs/performance.md), three seeds, and an
honest protocol: validation patients choose the epoch. --stage=sweep measures the choice on your own model.

Fetches the published archive (2.1 GB) unless --config.data.path names it. Cost on one H100, estimated by --stage=plan
(half or twice as much is possible):

    network  memory in training  training  drawing  classifiers
    w128     52 GiB              6.2 h     0.7 h    13 h

MedMamba takes 11 h of the classifiers. With --config.diffusion.microbatches=2 training fits 40 GB. Measured on one H200:
drawing takes 0.3 h and 10.6 GiB; training was not measured.
"""

import ml_collections

from fetal_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
  config = default_config()
  config.name = 'fast'
  config.data.update(source='fetal_planes_db', image_size=128, split='official')
  config.diffusion.update(steps=50_000, warmup_steps=500)
  config.sample.update(rounds=2, per_class=5000, method='ancestral', steps=25, guidance_scale=0.5)
  config.classify.update(protocol='honest', num_seeds=3, epochs=50, pretrain_epochs=15, batch_size=64)
  return config
