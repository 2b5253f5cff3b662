"""Single copies: synthetic images so near to a training image that not one fresh image would come as near by chance.

A test of shares (`memorisation.near_share`) does not see a handful of copies among thousands of images; this one does.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

LEVEL = 0.005  # probability that even one of as many fresh images were as near
_TAIL = 0.1  # of the held-out images: what tells how distances thin out towards 0
_LEAST_IN_TAIL = 10


def duplicates(
  synthetic: Float[np.ndarray, ' m'], heldout: Float[np.ndarray, ' n'], level: float = LEVEL
) -> dict[str, Any] | None:
  """Counts synthetic images nearer than m fresh images would come, all together, but with probability `level`.

  Near 0 the share of fresh images within a distance r grows like r^k, where k is the number of dimensions that images
  vary in. From the nearest tenth of the held-out distances k is estimated by maximum likelihood (Levina and Bickel,
  2004, "Maximum likelihood estimation of intrinsic dimension"; the same as Hill's estimator of a tail), and the share
  is followed down to where it is `level / m`.

  Args:
    synthetic: distances of the synthetic images to their nearest training images.
    heldout: the same of real images that the generator has not seen.
    level: see above.

  Returns:
    `count` and `indices` of the duplicates, `threshold` (distance), `dimension` (k) and `level`. None: fewer than 100
    held-out images, or a tenth of them are in the training set themselves.
  """
  m, n = len(synthetic), len(heldout)
  j = int(_TAIL * n)
  if not m or j < _LEAST_IN_TAIL:
    return None
  *tail, edge = np.sort(heldout.astype(np.float64))[: j + 1]
  if not tail[0] or tail[0] == edge:
    return None
  dimension = 1 / np.log(edge / np.array(tail)).mean()
  threshold = edge * (level / m / (j / n)) ** (1 / dimension)
  found = np.flatnonzero(synthetic < threshold)
  return {
    'count': len(found),
    'indices': found.tolist(),
    'threshold': float(threshold),
    'dimension': float(dimension),
    'level': level,
  }
