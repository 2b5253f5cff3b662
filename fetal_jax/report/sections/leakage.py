"""Leakage: which patients are on both sides of the split, and who was trained on which images."""

from fetal_jax.report.page import Section, Terms
from fetal_jax.report.run import Data, Run


def section(run: Run) -> Section | None:
  """Tells who has seen what; None without data."""
  if run.data is None:
    return None
  facts = [
    ('Split', f'{run.data.split}, hash {run.data.split_hash[:12]}'),
    ('Patients', overlap(run.data)),
    ('Trained on', f'{_trained_on(run)}.'),
  ]
  terms = Terms([(term, '', value) for term, value in facts])
  return Section('leakage', 'Leakage: who is seen on both sides?', [terms], nav='Leakage')


def overlap(data: Data) -> str:
  """Returns how many patients are on both sides of the split, and what follows from it."""
  share, shared = data.test_patient_overlap, data.shared_patients
  if not shared:
    return 'No patient is on both sides of the split: test images show people whom neither generator nor classifier has seen.'
  text = (
    f'{shared:,} patients are on both sides of the split: {100 * share:.0f} % of the test images show a patient who is '
    f'also on the training side, and {100 * data.test_patient_class_overlap:.0f} % show that patient in the same class. '
    'Test accuracies are therefore optimistic for new patients.'
  )
  if data.split == 'paper':
    text += (
      ' The split reproduces the counts of the paper; for new patients take one that keeps patients apart '
      '("patient", or "official" where the source has it).'
    )
  return text


def _trained_on(run: Run) -> str:
  if run.evaluation is None:
    return 'Whether generator, guide and judge saw this training side alone has not been checked: run --stage=evaluate'
  trained = run.evaluation.leakage.trained_on
  return f'{trained[0].upper()}{trained[1:]}; by recorded split hash, anything of another split is refused'
