"""TFDS builder of FETAL_PLANES_DB: from a local zip or folder, or from the published archive."""

import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from fetal_jax.data import decode
from fetal_jax.data.problems import MOST, Problems
from fetal_jax.data.sources import download, encode
from fetal_jax.data.sources.features import SPLIT, example, features
from fetal_jax.data.sources.fetal_planes_db.archive import open_archive
from fetal_jax.data.sources.fetal_planes_db.metadata import CLASS_NAMES
from fetal_jax.data.sources.intake import Intake
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.progress import Progress

URL = 'https://zenodo.org/records/3904280/files/FETAL_PLANES_ZENODO.zip'
MD5 = '2a5fcc2cefb789bcc0f6c1f73e0ea43f'
SIZE = 2_088_522_169  # bytes


class FetalPlanesDb(tfds.core.GeneratorBasedBuilder):
  """12,400 maternal-fetal ultrasound planes of 1,792 patients in six classes.

  Examples come in the order of the data set's CSV, PNGs byte for byte as published (other formats as PNGs of their pixels), with every column of
  the CSV. TensorFlow is not needed: the files are array_record, read with `as_data_source`.

  Attributes:
    intake: what was in the source; None before `download_and_prepare`.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES: ClassVar[dict[str, str]] = {
    '1.0.0': 'Images and metadata as published on Zenodo (record 3904280).'
  }

  def __init__(self, *, source: str = '', allow_missing: bool = False, **kwargs):
    """Makes the builder; nothing is read before `download_and_prepare`.

    Args:
      source: a zip or a folder with FETAL_PLANES_DB_data.csv and the images; '' downloads the archive (2.1 GB).
      allow_missing: leave out images that are named in the CSV but missing, instead of stopping.
      **kwargs: of `tfds.core.DatasetBuilder`, such as `data_dir`.
    """
    self._source = source
    self._allow_missing = allow_missing
    self.intake: Intake | None = None
    super().__init__(**{'file_format': 'array_record', **kwargs})

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=features(CLASS_NAMES),
      supervised_keys=('image', 'label'),
      homepage='https://doi.org/10.5281/zenodo.3904280',
      disable_shuffling=True,  # keeps the order of the CSV, which the paper's split depends on
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    path: str | pathlib.Path = self._source
    if not path:
      archive = pathlib.Path(dl_manager.download_dir) / 'FETAL_PLANES_ZENODO.zip'
      path = download.fetch(URL, archive, md5=MD5, size=SIZE)
    return {SPLIT: self._generate_examples(path)}

  def _generate_examples(self, path: str | pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_archive(path) as archive:
      records = archive.records
      present = np.array([name in archive.images for name in records.names])
      missing = records.names[~present]
      if len(missing):
        what = f'{path}: {len(missing)} of {len(records)} images in the CSV are absent ({", ".join(missing[:MOST])}'
        what += ', ...)' if len(missing) > MOST else ')'
        if len(missing) == len(records):
          raise UserError(f'{what}; the images must lie in the same zip or folder as the CSV')
        if not self._allow_missing:
          raise UserError(
            f'{what}; get the whole archive, or leave them out: --config.data.allow_missing=True'
          )
        logging.warning('%s: left out', what)
        records = records.take(present)
      left_out = {**({'rows without an image': len(missing)} if len(missing) else {}), **archive.left_out}
      self.intake = Intake(images=len(records), left_out=left_out, files=archive.files, rows=len(present))
      assert records.official_train is not None  # the CSV has the column
      problems = Problems(f'{path}', '; ')
      with Progress('Reading images', len(records), 'images') as progress:
        for i, name in enumerate(records.names.tolist()):
          try:
            content = archive.read(archive.images[name])
            if problems:  # nothing is kept any more: the others are looked at to name all that is wrong
              encode.check(content)
              continue
            png = encode.as_png(content)
          except decode.BadImage as error:
            problems.add(
              f'{path}: image {name} is damaged ({error})', 'replace it or take it out of the data set'
            )
            continue
          except UserError as error:
            what, _, remedy = str(error).rpartition('; ')
            problems.add(what, remedy)
            continue
          yield (
            i,
            example(
              png,
              label=int(records.labels[i]),
              name=name,
              patient=str(records.patients[i]),
              brain_plane=str(records.brain_planes[i]),
              operator=str(records.operators[i]),
              machine=str(records.machines[i]),
              official_train=int(records.official_train[i]),
            ),
          )
          progress.update(i + 1)
      problems.check()
