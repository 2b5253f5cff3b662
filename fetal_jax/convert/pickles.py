"""Pickles, read without running anything that is in them.

`pickle.Unpickler` with a strict `find_class` still lets a file set attributes of whatever is allowed (BUILD),
nest tuples until hashing them overflows C's stack, or declare a memo of 2^32 entries. The pickles of state
dicts use some thirty opcodes, so those are spelled out here and all others are refused. A function's name stays
text until it is called, and then it is looked up in a table that the caller gives; nothing is ever imported.
"""

import io
import pickle
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from fetal_jax.runtime.errors import UserError

# A network with its optimiser takes about 100 opcodes a parameter; an opcode may cost 64 bytes of memory.
MAX_OPCODES = 4_000_000

CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False, pickle.EMPTY_TUPLE: ()}
SHORT_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
# The width of a number, of an index into the memo, or of a text's length, in bytes.
UNSIGNED = {pickle.BININT1: 1, pickle.BININT2: 2}
GETS = {pickle.BINGET: 1, pickle.LONG_BINGET: 4}
PUTS = {pickle.BINPUT: 1, pickle.LONG_BINPUT: 4}
TEXTS = {pickle.BINUNICODE: 4, pickle.SHORT_BINUNICODE: 1, pickle.BINSTRING: 4, pickle.SHORT_BINSTRING: 1}

# Exceptions of the functions below on bytes that are not a whole pickle.
DAMAGE = (AttributeError, EOFError, LookupError, OverflowError, TypeError, ValueError, struct.error)


class Global(NamedTuple):
  """The name of an object that the pickle refers to; never the object itself."""

  name: str


def load(
  stream: io.BytesIO,
  calls: Mapping[str, Callable[..., Any]] | None = None,
  names: Collection[str] = (),
  persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
  """Reads the value of one pickle (protocols 2 to 5), and leaves `stream` at its end.

  Args:
    stream: holds the pickle from its position on.
    calls: functions that may be called, by dotted name, beside 'collections.OrderedDict'.
    names: other names that may occur; they stay `Global`.
    persistent_load: makes the value of a persistent id, as `pickle.Unpickler.persistent_load` does.

  Returns:
    Numbers, text, None, tuples, lists, dicts (ordered ones too; attributes set on them are dropped), `Global`,
    and whatever `calls` and `persistent_load` return.

  Raises:
    UserError: the pickle is damaged, or asks for more than the above.
  """
  try:
    return _run(stream, {'collections.OrderedDict': _ordered_dict, **(calls or {})}, names, persistent_load)
  except DAMAGE as error:
    raise UserError('its pickle is damaged or cut short; copy or download it again') from error


def _run(stream, calls, names, persistent_load):
  stack: list[Any] = []
  marks: list[int] = []
  memo: dict[int, Any] = {}

  def take(count):
    data = stream.read(count)
    if len(data) < count:
      raise EOFError
    return data

  def number(width):
    return int.from_bytes(take(width), 'little')

  def line():
    data = stream.readline()
    if not data.endswith(b'\n'):
      raise EOFError
    return data[:-1].decode()

  def since_mark():
    start = marks.pop()
    items = stack[start:]
    del stack[start:]
    return items

  def push_global(module, name):
    if (full := f'{module}.{name}') not in calls and full not in names:
      raise UserError(
        f'holds {full[:100]!r}, which is no part of a state dict, and pickled code is never run here; '
        'load it with PyTorch where you trust it, and save model.state_dict() instead'
      )
    stack.append(Global(full))

  for _ in range(MAX_OPCODES):
    opcode = take(1)
    if opcode in GETS:
      stack.append(memo[number(GETS[opcode])])
    elif opcode in PUTS:
      memo[number(PUTS[opcode])] = stack[-1]
    elif opcode in UNSIGNED:
      stack.append(number(UNSIGNED[opcode]))
    elif opcode in TEXTS:
      stack.append(take(number(TEXTS[opcode])).decode())
    elif opcode in CONSTANTS:
      stack.append(CONSTANTS[opcode])
    elif opcode in SHORT_TUPLES:
      items = [stack.pop() for _ in range(SHORT_TUPLES[opcode])]
      stack.append(tuple(reversed(items)))
    else:
      match opcode:
        case pickle.PROTO:
          take(1)
        case pickle.FRAME:
          take(8)
        case pickle.MARK:
          marks.append(len(stack))
        case pickle.STOP:
          return stack.pop()
        case pickle.MEMOIZE:
          memo[len(memo)] = stack[-1]
        case pickle.BININT:
          stack.append(int.from_bytes(take(4), 'little', signed=True))
        case pickle.LONG1:
          stack.append(int.from_bytes(take(number(1)), 'little', signed=True))
        case pickle.BINFLOAT:
          stack.append(struct.unpack('>d', take(8))[0])
        case pickle.TUPLE:
          stack.append(tuple(since_mark()))
        case pickle.EMPTY_LIST:
          stack.append([])
        case pickle.APPEND | pickle.APPENDS:
          items = [stack.pop()] if opcode == pickle.APPEND else since_mark()
          _typed(stack[-1], list).extend(items)
        case pickle.EMPTY_DICT:
          stack.append({})
        case pickle.SETITEM | pickle.SETITEMS:
          items = [stack.pop(), stack.pop()][::-1] if opcode == pickle.SETITEM else since_mark()
          _typed(stack[-1], dict).update(_mapping(zip(items[::2], items[1::2], strict=True)))
        case pickle.GLOBAL:
          push_global(line(), line())
        case pickle.STACK_GLOBAL:
          name, module = stack.pop(), stack.pop()
          push_global(_typed(module, str), _typed(name, str))
        case pickle.REDUCE | pickle.NEWOBJ:
          arguments, function = stack.pop(), stack.pop()
          stack.append(calls[_typed(function, Global).name](*_typed(arguments, tuple)))
        case pickle.BUILD:
          stack.pop()  # attributes: `_metadata` of a state dict
        case pickle.BINPERSID if persistent_load:
          stack.append(persistent_load(stack.pop()))
        case _:
          raise UserError(
            f'its pickle is damaged, or no state dict (opcode {opcode!r}); '
            'save model.state_dict() with PyTorch again'
          )
  raise UserError(f'its pickle has more than {MAX_OPCODES:,} steps; save model.state_dict() alone')


def _typed(value, kind):
  if type(value) is not kind:
    raise TypeError(f'{kind.__name__} expected, not {type(value).__name__}')
  return value


def _ordered_dict(items=None):
  """Stands in for OrderedDict, which Python 3 calls without arguments, and Python 2 with a list of pairs."""
  mapping = _mapping(_typed(items, list)) if items is not None else {}
  # A list that is named again and again would make the mappings many times as large as the file.
  if items:
    items.clear()
  return mapping


def _mapping(items):
  """Makes a dict. Its keys may not be tuples, whose hash is a recursion as deep as they are nested."""
  return {_key(key): value for key, value in items}


def _key(key):
  if type(key) not in (str, int, float, bool, type(None)):
    raise TypeError(f'a key of type {type(key).__name__}')
  return key
