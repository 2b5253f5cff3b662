"""Makes `dinov2.npz`: class tokens of timm's DINOv2, which is the reference's, at two blocks of 128 channels.

    python tests/golden/make_dinov2.py

Needs torch and timm. The position embeddings are resized as the reference does it (`interpolate_pos_encoding` of
facebookresearch/dinov2), which is not how timm does.
"""

import functools
import json
import pathlib

import numpy as np
import torch
from golden_param import golden_param
from timm.models.vision_transformer import VisionTransformer

SALT, SIZE, TRAINED_SIZE = 0, 224, 518


def main():
  make = functools.partial(
    VisionTransformer, patch_size=14, embed_dim=128, depth=2, num_heads=2, init_values=1.0, num_classes=0
  )
  shapes = {name: tuple(value.shape) for name, value in make(img_size=TRAINED_SIZE).state_dict().items()}
  shapes['mask_token'] = (1, 128)
  state = {name: torch.from_numpy(golden_param(name, shape, SALT)) for name, shape in shapes.items()}
  state['pos_embed'] *= 100  # the formula makes them too small to matter

  token, grid = state['pos_embed'].split([1, 37**2], dim=1)
  grid = torch.nn.functional.interpolate(
    grid.reshape(1, 37, 37, -1).permute(0, 3, 1, 2), scale_factor=(16.1 / 37, 16.1 / 37), mode='bicubic'
  )
  positions = torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)

  n, i, j, c = np.indices((2, SIZE, SIZE, 3))
  images = ((40 * n + 2 * i * (n + 1) + 3 * j + 70 * c) % 256).astype(np.uint8)
  x = torch.from_numpy(images).float() / 255
  x = (x - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
  net = make(img_size=SIZE).eval()
  missing = net.load_state_dict({**state, 'pos_embed': positions}, strict=False)
  assert missing.unexpected_keys == ['mask_token'], missing
  assert not missing.missing_keys, missing
  with torch.no_grad():
    features = net(x.permute(0, 3, 1, 2)).numpy()
  print(
    'features', features.mean(), features.std(), 'between images', np.abs(features[0] - features[1]).mean()
  )
  np.savez_compressed(
    pathlib.Path(__file__).with_name('dinov2.npz'),
    param_names=np.array(list(shapes)),
    param_shapes=np.array([json.dumps(s) for s in shapes.values()]),
    salt=SALT,
    images=images,
    positions=positions[:, ::16, ::16].numpy(),
    features=features,
  )


if __name__ == '__main__':
  main()
