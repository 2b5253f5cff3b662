"""Names that differ only in their spelling are said."""

import pytest

from fetal_jax.data import records, spellings


@pytest.mark.parametrize(
  'names',
  [('12', '12.0'), ('12', '12.00', '012'), ('P7', 'p7'), ('P7', 'P-07', 'p_7'), ('Ann', 'ANN'), ('Jos\u00e9', 'Jose\u0301'),
   ('\uff11\uff12', '12'), ('0', '00'), ('A 1', 'a  1')],
)  # fmt: skip
def test_one_patient_in_several_spellings(names):
  assert spellings.several([*names, *names], spellings.of_patient) == [names]


@pytest.mark.parametrize(
  'names',
  [
    ('12', '120'),
    ('1-12', '11-2'),
    ('P7', 'Q7'),
    ('7', '7.5'),
    ('P1', '1'),
    ('-', '+'),
    ('10', '1'),
    ('0', ''),
  ],
)
def test_different_patients(names):
  assert not spellings.several(names, spellings.of_patient)


def test_classes_keep_their_numbers():
  assert spellings.several(['Label_1', 'label_01', 'label_1'], spellings.of_class) == [('Label_1', 'label_1')]


def made(patients, class_names=('a', 'b')):
  return records.make([f'x{i}' for i in range(len(patients))], [0] * len(patients), patients, class_names)


def test_what_is_said():
  (said,) = spellings.warnings(made(['12', '12.0', '3', '3']))
  assert said.startswith(
    "1 patients have several spellings ('12' and '12.0'), which count as different patients: if they are the same, they "
    'may be in train and test at once; write each in one way'
  )
  (said,) = spellings.warnings(made(['1', '2'], ('Caf\u00e9', 'cafe\u0301')))
  assert (
    "differ only in case, blanks or Unicode form ('Caf\\xe9' and 'cafe\\u0301'); if they are the same class"
    in said
  )
  many = made([f'{spelling}{i}' for i in range(30) for spelling in 'Pp'])
  assert spellings.warnings(many)[0].count('; ') == 21


def test_unknown_patients_have_no_spellings():
  assert not spellings.warnings(records.make(['a1', 'a01'], [0, 1], ['', ''], ('a', 'b')))
  assert not spellings.warnings(made(['1', '2']))


def test_a_long_name_keeps_its_ends():
  assert spellings.short('a' * 28) == 'a' * 28
  shown = spellings.short('left ' + 'x' * 200 + ' 2')
  assert shown == f'left {"x" * 9}…{"x" * 11} 2'
  assert len(shown) == 28
  assert spellings.short('a\nb\u202e') == 'a b '
