"""Leakage: which patients are on both sides, if that is known of the split, and who was trained on which images."""

from fetal_jax.report import sources
from fetal_jax.report.page import Section, Terms
from fetal_jax.report.run import Data, Run


def section(run: Run) -> Section | None:
  """Tells who has seen what; None without data."""
  if run.data is None:
    return None
  facts = [
    ('Split', f'{split_title(run.data)}, hash {run.data.split_hash[:12]}'),
    ('Patients', overlap(run.data)),
    ('Trained on', f'{_trained_on(run)}.'),
  ]
  terms = Terms([(term, '', value) for term, value in facts])
  return Section('leakage', 'Leakage: who is seen on both sides?', [terms], nav='Leakage')


def split_title(data: Data) -> str:
  """Returns the split as it was asked for, with what keeps it from holding what its name says."""
  return data.split if data.patients_known else f'{data.split}, though the patients are unknown'


def overlap(data: Data) -> str:
  """Returns how many patients are on both sides of the split, and what follows from it; or that nobody knows."""
  share, same_class = data.test_patient_overlap, data.test_patient_class_overlap
  if not data.patients_known or share is None or same_class is None:
    return _unknown(data)
  if not data.shared_patients:
    return 'No patient is on both sides of the split: test images show people whom neither generator nor classifier has seen.'
  text = (
    f'{data.shared_patients:,} patients are on both sides of the split: {100 * share:.0f} % of the test images show a '
    f'patient who is also on the training side, and {100 * same_class:.0f} % show that patient in the same class. '
    'Test accuracies are therefore optimistic for new patients.'
  )
  if data.split == 'paper':
    what = 'reproduces the counts of the paper' if sources.of(data.source).in_paper else 'is by image'
    text += (
      f' The split {what}; for new patients take one that keeps patients apart '
      '("patient", or "official" where the source has it).'
    )
  return text


def _unknown(data: Data) -> str:
  """Says of how many images the patient is unknown, how they were divided, and what cannot be said."""
  images, unknown = sum(data.totals.values()), data.images_of_unknown_patients
  which = f'all {images:,} images' if unknown == images else f'{unknown:,} of {images:,} images'
  how = {
    'official': "The division is that of the data's owner; whether it keeps patients apart is not known.",
    'paper': 'They were divided by image.',
    'patient': 'They were divided one by one, as if each showed another patient.',
  }[data.split]
  return (
    f'The patients of {which} are unknown. {how} Whether test images show somebody who is also on the training side cannot be '
    'said; if they do, test accuracies are optimistic for new patients.'
  )


def _trained_on(run: Run) -> str:
  if run.evaluation is None:
    return 'Whether generator, guide and judge saw this training side alone has not been checked: run --stage=evaluate'
  trained = run.evaluation.leakage.trained_on
  return f'{trained[0].upper()}{trained[1:]}; by recorded split hash, anything of another split is refused'
