"""Whom an image shows, and what stands for a patient whom nobody knows.

An image whose patient is unknown is divided, drawn and counted by itself, as if it showed somebody of its own. In memory its
patient is a name that no patient has, so that code that groups images by patient is right without knowing of this; in files
it is empty.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

_NOBODY = '\t'  # begins the stand-in of an image; tables with control characters are refused


def named(patients: Sequence[str] | np.ndarray, images: Sequence[str] | np.ndarray) -> list[str]:
  """Returns the patients of files for memory: an image's stand-in where the patient is ''; ValueError without one each."""
  if len(patients) != len(images):
    raise ValueError(f'patients and images of different lengths: {len(patients)}, {len(images)}')
  return [patient or _NOBODY + image for patient, image in zip(patients, images, strict=True)]


def written(patients: Sequence[str] | np.ndarray) -> list[str]:
  """Returns the patients in memory as files have them: '' where unknown."""
  return ['' if patient.startswith(_NOBODY) else str(patient) for patient in patients]


def known(patients: np.ndarray) -> Bool[np.ndarray, ' n']:
  """Returns of which images the patient is known."""
  return ~np.char.startswith(np.asarray(patients, np.str_), _NOBODY)


def count(patients: np.ndarray) -> int | None:
  """Returns the number of patients; None where that of an image is unknown."""
  return len(np.unique(patients)) if known(patients).all() else None
