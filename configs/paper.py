"""The paper's experiment: FETAL_PLANES_DB at 128 px, image-level 80/20 split, 2 x 6 x 5,000 synthetic images.

    python -m fetal_jax.main --config=configs/paper.py:w128 --workdir=runs/paper
    python -m fetal_jax.main --config=configs/paper.py:w256 --workdir=runs/paper_w256

Reproduces Tables 1-7 of "Enhancing fetal plane classification accuracy with data augmentation using diffusion
models" (Tian et al. 2025): Adam 1e-4, batch 32, 200 epochs, rotation and flips on real images, and the epoch of
the best test accuracy. The paper leaves the generator's width, steps and guidance open; here they are those of
guided-diffusion's 128 px models. `w128` has 105 M parameters, `w256` (guided-diffusion's own) 420 M.

Fetches the published archive (2.1 GB) unless --config.data.path names it. Hardware: one 80 GB GPU or a TPU host;
`w256` with --config.diffusion.microbatches=4 on 40 GB. Time, counted from FLOPs at 200 TFLOP/s sustained and not
measured: `w128` 9 h training + 5 h sampling, `w256` 33 h + 15 h; the 30 classifiers, and eight
more for the curve over numbers of synthetic images, on top of that.

Its split is the paper's: 95 % of the test images show a patient who is also in train. For an answer about new
patients use configs/fast.py.
"""

import ml_collections

from fetal_jax.config import default_config
from fetal_jax.runtime.errors import UserError


def get_config(width: str = 'w128') -> ml_collections.ConfigDict:
  config = default_config()
  config.name = f'paper {width}'
  config.data.update(source='fetal_planes_db', image_size=128, split='paper')
  if width == 'w256':
    config.diffusion.unet.width = 256
  elif width != 'w128':
    raise UserError(f'configs/paper.py:{width}: the widths are w128 and w256')
  config.sample.update(rounds=2, per_class=5000, method='ancestral', steps=250, guidance_scale=0.5)
  config.classify.update(protocol='paper', epochs=200, batch_size=32, learning_rate=1e-4)
  # Accuracy against 10,000 to 60,000 synthetic images, for the family that gains most from them.
  config.classify.update(curve=(10_000, 20_000, 40_000, 50_000), curve_models=('vit_b_32',))
  return config
