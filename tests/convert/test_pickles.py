import contextlib
import io
import os
import pickle
import struct
from collections import OrderedDict

import pytest
from helpers.hostile import repeatable
from hypothesis import example, given
from hypothesis import strategies as st

from fetal_jax.convert import pickles
from fetal_jax.runtime.errors import UserError


def load(data, **kwargs):
  return pickles.load(io.BytesIO(data), **kwargs)


VALUE = {
  'numbers': [0, 255, 65535, -1, 2**31 - 1, -(2**31), 2**70, -(2**70), 0.5, float('inf')],
  'others': (None, True, False, '', 'é', (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
  'nested': {'a': {1: [], 0.5: {}}, None: [[1], [2, 3]]},
  'ordered': OrderedDict(b=1, a=OrderedDict()),
}


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_plain_values_are_what_pickle_makes_of_them(protocol):
  value = load(pickle.dumps(VALUE, protocol))
  assert value == VALUE
  assert list(value['ordered']) == ['b', 'a']


def test_a_pickle_ends_where_the_next_begins():
  stream = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps('two', 2) + b'rest')
  assert pickles.load(stream) == [1]
  assert pickles.load(stream) == 'two'
  assert stream.read() == b'rest'


def test_what_python_2_wrote():
  # Bytes as text, and an OrderedDict as a call with its pairs.
  data = b'\x80\x02ccollections\nOrderedDict\nq\x01]q\x02]q\x03(U\x01aT\x03\0\0\0w\xc3\xa9ea\x85Rq\x04.'
  assert load(data) == {'a': 'wé'}


def test_a_list_of_pairs_is_taken_once():
  call = b'ccollections\nOrderedDict\nh\x01\x85R'
  data = b'\x80\x02](K\x01K\x02\x86K\x03K\x04\x86eq\x01' + call + call + b'\x86.'
  assert load(data) == ({1: 2, 3: 4}, {})


def test_attributes_of_a_mapping_are_dropped():
  data = b'\x80\x02ccollections\nOrderedDict\n)RU\x01aK\x01s}(U\x09_metadata)U\x05itemsNub.'
  assert pickle.loads(data).items is None
  value = load(data)
  assert not hasattr(value, '_metadata')
  assert dict(value.items()) == {'a': 1}


def test_only_what_is_named_can_be_called():
  call = b'\x80\x02cmath\nhypot\nK\x03K\x04\x86R.'
  assert load(call, calls={'math.hypot': lambda *arguments: arguments}) == (3, 4)
  with pytest.raises(UserError, match=r"holds 'math\.hypot'"):
    load(call)
  # What may be named stays a name: it cannot be called.
  assert load(b'\x80\x02cmath\nhypot\n.', names={'math.hypot'}) == pickles.Global('math.hypot')
  with pytest.raises(UserError, match='damaged'):
    load(call, names={'math.hypot'})


class Hostile:
  """Unpickled by pickle itself, it makes the folder `marker`."""

  def __init__(self, marker):
    self.marker = marker

  def __reduce__(self):
    return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_hostile_calls_are_not_run(protocol, tmp_path):
  data = pickle.dumps({'weight': Hostile(tmp_path / 'marker')}, protocol)
  with pytest.raises(
    UserError, match=rf"holds '{os.mkdir.__module__}\.mkdir', .* never run .*state_dict\(\)"
  ):
    load(data)
  assert not (tmp_path / 'marker').exists()
  pickle.loads(data)
  assert (tmp_path / 'marker').exists()  # pickle does run it


def text(value):
  return b'\x8c' + bytes([len(value)]) + value


@pytest.mark.parametrize(
  ('data', 'message'),
  {
    'eval': (b'\x80\x02cbuiltins\neval\nX\x03\0\0\x001+1\x85R.', "holds 'builtins.eval'"),
    'dotted': (
      b'\x80\x04' + text(b'collections') + text(b'OrderedDict.__init__.__globals__') + b'\x93.',
      "holds 'collections.OrderedDict.__init__.__globals__'",
    ),
    'line breaks in a name': (b'\x80\x04' + text(b'a') + text(b'b\nc') + b'\x93.', r"'a\.b\\nc'"),
    'INST': (b'\x80\x02(ios\ngetcwd\n.', 'opcode'),
    'OBJ': (b'\x80\x02(ccollections\nOrderedDict\no.', 'opcode'),
    'NEWOBJ_EX': (b'\x80\x04ccollections\nOrderedDict\n)}\x92.', 'opcode'),
    'EXT1': (b'\x80\x02\x82\x01.', 'opcode'),
    'EXT4': (b'\x80\x02\x84\x01\0\0\0.', 'opcode'),
    'protocol 0': (b"S'a'\np0\n.", 'opcode'),
    'persistent id': (b'\x80\x02X\x01\0\0\0aQ.', 'opcode'),
    'call of text': (b'\x80\x02X\x01\0\0\0a)R.', 'damaged'),
    'arguments in a list': (b'\x80\x02ccollections\nOrderedDict\n]R.', 'damaged'),
    'pairs in a tuple': (b'\x80\x02ccollections\nOrderedDict\n)\x85R.', 'damaged'),
    'append to a dict': (b'\x80\x02}K\x01a.', 'damaged'),
    'key without value': (b'\x80\x02}(K\x01u.', 'damaged'),
    'tuple as a key': (b'\x80\x02})K\x01s.', 'damaged'),
    'tuple as an ordered key': (b'\x80\x02ccollections\nOrderedDict\n])K\x01\x86a\x85R.', 'damaged'),
    'nothing on the stack': (b'\x80\x02.', 'damaged'),
    'too short a tuple': (b'\x80\x02K\x01\x87.', 'damaged'),
    'no mark': (b'\x80\x02t.', 'damaged'),
    'nothing in the memo': (b'\x80\x02h\x01.', 'damaged'),
    'text longer than the file': (b'\x80\x02X\xff\xff\xff\xffabc.', 'damaged'),
    'text that is none': (b'\x80\x02X\x01\0\0\0\xff.', 'damaged'),
    'no end': (b'\x80\x02K\x01', 'damaged'),
    'empty': (b'', 'damaged'),
  }.values(),
)
def test_other_pickles_are_refused(data, message):
  with pytest.raises(UserError, match=message) as error:
    load(data)
  assert '\n' not in str(error.value)


def test_the_memo_takes_what_it_holds_not_what_its_indices_say():
  assert load(b'\x80\x02K\x07r\xff\xff\xff\xff0j\xff\xff\xff\xff.'.replace(b'0', b'')) == 7


def test_depth_costs_nothing():
  assert load(b'\x80\x02)' + b'\x85' * 100_000 + b'.') != ()
  with pytest.raises(
    UserError, match='damaged'
  ):  # Python's own pickle would overflow the stack, hashing the key
    load(b'\x80\x02})' + b'\x85' * 100_000 + b'K\x01s.')


def test_steps_are_limited(monkeypatch):
  monkeypatch.setattr(pickles, 'MAX_OPCODES', 100)
  assert load(b'\x80\x02]' + b'Na' * 48 + b'.') == [None] * 48
  with pytest.raises(UserError, match='more than 100 steps'):
    load(b'\x80\x02]' + b'Na' * 49 + b'.')


@repeatable(100)
@given(st.binary(max_size=60))
@example(struct.pack('<BBBI', 0x80, 2, ord('X'), 2**32 - 1))
def test_any_bytes_give_a_value_or_a_user_error(data):
  with contextlib.suppress(UserError):
    load(b'\x80\x02' + data)
