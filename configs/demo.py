"""The whole experiment on drawn planes, on a laptop: all five families, all six regimes.

    make demo

or

    python -m fetal_jax.main --config=configs/demo.py --workdir=runs/demo

1,240 planes of the embedded `fetal_phantom` at 32 px, split by patient; a small UNet and guide; all five families
at reduced sizes. It shows that everything runs, not that the result of the paper holds: drawn planes, small networks, one seed.
On two CPU cores 7 min 39 s with nothing compiled before (and a minute of installation), 2.0 GiB.
"""

import ml_collections

from fetal_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
  config = default_config()
  config.name = 'demo'
  config.data.update(source='fetal_phantom', phantom_images=1240, image_size=32, split='patient')
  config.diffusion.unet.update(
    width=16,
    channel_mult=(1, 2, 4),
    num_res_blocks=1,
    attention_resolutions=(8,),
    num_head_channels=32,
    norm_groups=4,
  )
  config.diffusion.guide.update(
    width=16,
    channel_mult=(1, 2, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    num_head_channels=32,
    norm_groups=4,
  )
  config.diffusion.update(
    schedule='cosine',  # better than linear for small images (Improved DDPM, section 3.2)
    steps=800,
    batch_size=16,
    steps_per_call=1,
    learning_rate=1e-3,
    guide_learning_rate=1e-3,
    warmup_steps=50,
    ema_rates=(0.995,),
    log_every=100,
    eval_every=400,
    preview_every=800,
    preview_per_class=8,
    checkpoint_every=400,
  )
  config.sample.update(
    rounds=2, per_class=40, method='ancestral', steps=30, guidance_scale=1.0, batch_size=40
  )
  config.classify.update(epochs=3, batch_size=32, steps_per_call=1, learning_rate=1e-3)
  args = config.classify.model_args
  with config.unlocked():
    args.resnet50.update(width=16, depths=(1, 1, 1))
    args.densenet169.update(growth=12, blocks=(2, 2, 2), init_features=24)
    args.vit_b_32.update(patch_size=4, hidden_size=64, depth=3, heads=4, mlp_dim=128)
    args.swin_t.update(embed_dim=32, depths=(2, 2), heads=(2, 4), window=4, patch_size=4)
    args.medmamba_t.update(dims=(16, 32), depths=(1, 1), d_state=4, patch_size=4)
  return config
