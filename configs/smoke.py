"""The whole flow at the smallest size at which every part has something to do; for tests.

    python -m fetal_jax.main --config=configs/smoke.py --workdir=runs/smoke

240 phantom planes at 16 px, all five families in their smallest form, all six regimes. The figures it
reports mean nothing. On two CPU cores about a minute once compiled.
"""

import ml_collections

from fetal_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
  config = default_config()
  config.name = 'smoke'
  config.data.update(source='fetal_phantom', phantom_images=240, image_size=16, split='patient')
  for network in (config.diffusion.unet, config.diffusion.guide):
    network.update(
      width=16,
      channel_mult=(1, 2),
      num_res_blocks=1,
      attention_resolutions=(8,),
      num_head_channels=16,
      norm_groups=4,
    )
  config.diffusion.guide.attention_resolutions = ()  # has attention in its middle
  config.diffusion.update(
    steps=40,
    batch_size=16,
    steps_per_call=2,
    learning_rate=1e-3,
    guide_learning_rate=1e-3,
    warmup_steps=4,
    ema_rates=(0.99,),
    log_every=10,
    eval_every=20,
    preview_every=40,
    preview_per_class=2,
    checkpoint_every=20,
  )
  config.sample.update(rounds=2, per_class=8, steps=4, batch_size=16, shard_size=5)
  config.classify.update(epochs=1, batch_size=16, eval_batch_size=16, steps_per_call=1, learning_rate=1e-3)
  args = config.classify.model_args
  with config.unlocked():
    args.resnet50.update(width=8, depths=(1,))
    args.densenet169.update(growth=8, blocks=(1,), init_features=8)
    args.vit_b_32.update(patch_size=8, hidden_size=16, depth=1, heads=2, mlp_dim=32)
    args.swin_t.update(embed_dim=8, depths=(2,), heads=(1,), window=2, patch_size=2)
    args.medmamba_t.update(dims=(8,), depths=(1,), d_state=4, patch_size=2)
  return config
