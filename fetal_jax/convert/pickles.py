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

# A network with its optimiser takes about 100 opcodes a parameter, of which there are a thousand; an opcode may cost 72 bytes
# of memory, 70 MiB in all.
MAX_OPCODES = 1_000_000

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
    calls = {'collections.OrderedDict': _ordered_dict, **(calls or {})}
    return _Machine(stream, calls, names, persistent_load).run()
  except DAMAGE as error:
    raise UserError('its pickle is damaged or cut short; copy or download it again') from error


class _Machine:
  """The stack machine that a pickle is a program of."""

  def __init__(self, stream, calls, names, persistent_load):
    self.stream, self.calls, self.names, self.persistent_load = stream, calls, names, persistent_load
    self.stack: list[Any] = []
    self.marks: list[int] = []
    self.memo: dict[int, Any] = {}

  def run(self) -> Any:
    for _ in range(MAX_OPCODES):
      opcode = self.take(1)
      if opcode == pickle.STOP:
        return self.stack.pop()
      if not (self.push_value(opcode) or self.build_container(opcode)):
        self.refer(opcode)
    raise UserError(f'its pickle has more than {MAX_OPCODES:,} steps; save model.state_dict() alone')

  # MARK: The bytes

  def take(self, count):
    data = self.stream.read(count)
    if len(data) < count:
      raise EOFError
    return data

  def number(self, width):
    return int.from_bytes(self.take(width), 'little')

  def line(self):
    data = self.stream.readline()
    if not data.endswith(b'\n'):
      raise EOFError
    return data[:-1].decode()

  def since_mark(self):
    start = self.marks.pop()
    items = self.stack[start:]
    del self.stack[start:]
    return items

  # MARK: Opcodes; each method returns whether the opcode was one of its own

  def push_value(self, opcode: bytes) -> bool:
    """Numbers, text, constants, and values that the memo keeps."""
    if opcode in GETS:
      value = self.memo[self.number(GETS[opcode])]
    elif opcode in UNSIGNED:
      value = self.number(UNSIGNED[opcode])
    elif opcode in TEXTS:
      value = self.take(self.number(TEXTS[opcode])).decode()
    elif opcode in CONSTANTS:
      value = CONSTANTS[opcode]
    elif opcode == pickle.BININT:
      value = int.from_bytes(self.take(4), 'little', signed=True)
    elif opcode == pickle.LONG1:
      value = int.from_bytes(self.take(self.number(1)), 'little', signed=True)
    elif opcode == pickle.BINFLOAT:
      value = struct.unpack('>d', self.take(8))[0]
    else:
      return False
    self.stack.append(value)
    return True

  def build_container(self, opcode: bytes) -> bool:
    """Tuples, lists and dicts, from what is on the stack."""
    stack = self.stack
    if opcode in SHORT_TUPLES:
      items = [stack.pop() for _ in range(SHORT_TUPLES[opcode])]
      stack.append(tuple(reversed(items)))
      return True
    match opcode:
      case pickle.MARK:
        self.marks.append(len(stack))
      case pickle.TUPLE:
        stack.append(tuple(self.since_mark()))
      case pickle.EMPTY_LIST:
        stack.append([])
      case pickle.APPEND | pickle.APPENDS:
        items = [stack.pop()] if opcode == pickle.APPEND else self.since_mark()
        _typed(stack[-1], list).extend(items)
      case pickle.EMPTY_DICT:
        stack.append({})
      case pickle.SETITEM | pickle.SETITEMS:
        items = [stack.pop(), stack.pop()][::-1] if opcode == pickle.SETITEM else self.since_mark()
        _typed(stack[-1], dict).update(_mapping(zip(items[::2], items[1::2], strict=True)))
      case _:
        return False
    return True

  def refer(self, opcode: bytes) -> None:
    """Names, calls, the memo and the frame; refuses all other opcodes."""
    stack = self.stack
    if opcode in PUTS:
      self.memo[self.number(PUTS[opcode])] = stack[-1]
      return
    match opcode:
      case pickle.PROTO:
        self.take(1)
      case pickle.FRAME:
        self.take(8)
      case pickle.MEMOIZE:
        self.memo[len(self.memo)] = stack[-1]
      case pickle.GLOBAL:
        self.push_global(self.line(), self.line())
      case pickle.STACK_GLOBAL:
        name, module = stack.pop(), stack.pop()
        self.push_global(_typed(module, str), _typed(name, str))
      case pickle.REDUCE | pickle.NEWOBJ:
        arguments, function = stack.pop(), stack.pop()
        stack.append(self.calls[_typed(function, Global).name](*_typed(arguments, tuple)))
      case pickle.BUILD:
        stack.pop()  # attributes: `_metadata` of a state dict
      case pickle.BINPERSID if self.persistent_load:
        stack.append(self.persistent_load(stack.pop()))
      case _:
        raise UserError(
          f'its pickle is damaged, or no state dict (opcode {opcode!r}); save model.state_dict() with PyTorch again'
        )

  def push_global(self, module: str, name: str) -> None:
    if (full := f'{module}.{name}') not in self.calls and full not in self.names:
      raise UserError(
        f'holds {full[:100]!r}, which is no part of a state dict, and pickled code is never run here; '
        'load it with PyTorch where you trust it, and save model.state_dict() instead'
      )
    self.stack.append(Global(full))


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
