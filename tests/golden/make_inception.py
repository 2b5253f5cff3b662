"""Makes `inception.npz`: features of torchvision's Inception v3, altered as the FID's weights need it.

    python tests/golden/make_inception.py

Needs torch and torchvision. The FID's network (pytorch-fid's `fid_inception_v3`) differs from torchvision's in three
things: average pools leave padding out of the mean, the pool in the last block is a maximum, and the classifier, which
the features do not see, has 1008 outputs. `unaltered` holds torchvision's own features, to show that it matters.
"""

import functools
import json
import pathlib
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from golden_param import golden_param
from torchvision.models import inception

SALT, CONV_GAIN = 0, 1.5
SHAPE = (2, 40, 330, 3)  # enlarged along one axis and reduced along the other


class MaxPoolE(inception.InceptionE):
  """The last block, with a maximum for its average."""

  def forward(self, x):
    with mock.patch.object(inception.F, 'avg_pool2d', F.max_pool2d):
      return super().forward(x)


def features(net, images):
  """The pooled features of uint8 images, scaled and resized as pytorch-fid does."""
  x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
  x = 2 * F.interpolate(x, size=(299, 299), mode='bilinear', align_corners=False) - 1
  net.fc = torch.nn.Identity()
  with torch.no_grad():
    return net.eval()(x).numpy()


def main():
  make = functools.partial(inception.Inception3, num_classes=1008, aux_logits=False, init_weights=False)
  torchvisions, fids = make(), make()
  fids.Mixed_7c = MaxPoolE(2048)
  shapes = {n: tuple(v.shape) for n, v in fids.state_dict().items() if not n.endswith('num_batches_tracked')}
  state = {n: torch.from_numpy(golden_param(n, s, SALT, CONV_GAIN)) for n, s in shapes.items()}
  for net in (torchvisions, fids):
    net.load_state_dict(state, strict=False)
  n, i, j, c = np.indices(SHAPE)
  images = ((40 * n + 5 * i + 3 * j + 70 * c) % 256).astype(np.uint8)
  unaltered = features(torchvisions, images)
  with mock.patch.object(inception.F, 'avg_pool2d', functools.partial(F.avg_pool2d, count_include_pad=False)):
    expected = features(fids, images)
  print('features', expected.mean(), expected.std(), 'changed by', np.abs(expected - unaltered).max())
  np.savez_compressed(
    pathlib.Path(__file__).with_name('inception.npz'),
    param_names=np.array(list(shapes)),
    param_shapes=np.array([json.dumps(s) for s in shapes.values()]),
    salt=SALT,
    conv_gain=CONV_GAIN,
    images=images,
    features=expected,
    unaltered=unaltered,
  )


if __name__ == '__main__':
  main()
