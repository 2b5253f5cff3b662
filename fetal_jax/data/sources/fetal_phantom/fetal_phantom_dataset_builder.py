"""TFDS builder of the drawn planes. Works without TensorFlow and without a network."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from fetal_jax.data.sources.features import SPLIT, example, features
from fetal_jax.data.sources.fetal_phantom import cohort
from fetal_jax.data.sources.fetal_phantom.records import phantom_records
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress


@dataclasses.dataclass(kw_only=True)
class PhantomConfig(tfds.core.BuilderConfig):
  """What is drawn: `images` planes of the set `seed`, the longer side `size` pixels."""

  images: int
  seed: int
  size: int


class FetalPhantom(tfds.core.GeneratorBasedBuilder):
  """Fetal ultrasound planes drawn from a seed: six classes, patients, machines, speckle and shadows.

  TensorFlow is not needed: the files are array_record, read with `as_data_source`.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES: ClassVar[dict[str, str]] = {'1.0.0': 'First drawings.'}

  def __init__(self, *, images: int = 1240, seed: int = 0, size: int = 160, **kwargs: Any):
    """Makes the builder; nothing is drawn before `download_and_prepare`.

    Args:
      images: how many; a larger set begins with the smaller one.
      seed: which set.
      size: width of the images in pixels, their longer side.
      **kwargs: of `tfds.core.DatasetBuilder`, such as `data_dir`.

    Raises:
      UserError: `images`, `seed` or `size` out of range.
    """
    if images < 1 or seed < 0 or size < 32:
      raise UserError(
        f'fetal_phantom: {images=}, {seed=}, {size=}; choose images >= 1, seed >= 0, size >= 32'
      )
    # The config's name is part of the folder, so that different settings never share one.
    name = f'images_{images}_seed_{seed}_size_{size}'
    config = PhantomConfig(name=name, images=images, seed=seed, size=size)
    super().__init__(**{'config': config, 'file_format': 'array_record', **kwargs})

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=features(cohort.CLASS_NAMES),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    del dl_manager  # nothing is downloaded
    return {SPLIT: self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    config = self.builder_config
    with Progress('Drawing images', config.images, 'images') as progress:
      for record in phantom_records(config.images, config.seed, config.size):
        plane, patient = record.plane, record.plane.patient
        yield (
          plane.index,
          example(
            record.png(),
            label=plane.label,
            name=plane.name,
            patient=str(patient.number),
            brain_plane=plane.brain_plane,
            operator=patient.operator,
            machine=patient.machine,
            official_train=patient.official_train,
          ),
        )
        progress.update(plane.index + 1)
