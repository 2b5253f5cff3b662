"""What a program costs, read off its jaxpr: nothing is compiled and no array is made."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

# Operations that a compiler folds into others: they move no numbers of their own.
_FREE = frozenset(
  (
    *('broadcast_in_dim', 'reshape', 'squeeze', 'transpose', 'convert_element_type', 'copy', 'iota'),
    *('stop_gradient', 'optimization_barrier'),
  )
)
# Those that are made element by element.
_CHEAP = _FREE | frozenset(
  (
    *(
      'abs',
      'add',
      'add_any',
      'and',
      'clamp',
      'concatenate',
      'cos',
      'div',
      'eq',
      'erf',
      'erf_inv',
      'exp',
      'expm1',
    ),
    *(
      'floor',
      'ge',
      'gt',
      'integer_pow',
      'is_finite',
      'le',
      'log',
      'log1p',
      'logistic',
      'lt',
      'max',
      'min',
      'mul',
    ),
    *(
      'ne',
      'neg',
      'not',
      'or',
      'pad',
      'pow',
      'rev',
      'rsqrt',
      'select_n',
      'shift_left',
      'shift_right_logical',
    ),
    *('sign', 'sin', 'slice', 'split', 'sqrt', 'square', 'sub', 'tanh', 'xor', 'bitcast_convert_type'),
  )
)
_MOST_SOURCES = 4  # of something that is made again; more would keep too much alive


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of a program, or of several.

  Attributes:
    flops: floating-point operations of convolutions and matrix products, two a multiply-add.
    bytes: what all operations write, before a compiler fuses them.
    operations: that are carried out, a loop's body as often as it runs, before a compiler fuses them.
  """

  flops: float = 0.0
  bytes: float = 0.0
  operations: float = 0.0

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(self.flops + other.flops, self.bytes + other.bytes, self.operations + other.operations)

  def __mul__(self, times: float) -> 'Cost':
    return Cost(self.flops * times, self.bytes * times, self.operations * times)


def trace(function: Callable[..., Any], *args: Any) -> Any:
  """The program (jaxpr) of a call with arrays, or their shapes, as arguments."""
  return jax.make_jaxpr(function)(*args).jaxpr


def trace_with_shapes(function: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
  """`trace`, and the shapes of what the call returns, as `jax.eval_shape` tells them."""
  program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
  return program.jaxpr, shapes


def cost(program: Any, *, wide: bool = False) -> Cost:
  """Counts the program as written, loops as often as they run; of a conditional the dearest branch.

  Args:
    program: from `trace`.
    wide: take what it makes in bfloat16 for float32: as if it had been traced with that.
  """
  total = Cost()
  for equation in _needed(program):
    name, params = equation.primitive.name, equation.params
    if name == 'cond':
      total += max((cost(branch.jaxpr, wide=wide) for branch in params['branches']), key=lambda c: c.flops)
    elif inner := _inner(params):
      once = sum((cost(part, wide=wide) for part in inner), Cost())
      total += once * (params['length'] if name == 'scan' else 1)
    elif name not in _FREE:
      total += Cost(_flops(equation), sum(_bytes(v, wide) for v in equation.outvars), 1)
  return total


def _flops(equation: Any) -> float:
  """Of a convolution or a matrix product; others have none that count."""
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    out_features = kernel[params['dimension_numbers'].rhs_spec[0]]
    # Zeros that are put between the pixels (the gradient of a stride) are no work.
    macs = math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / out_features
    return 2 * macs / math.prod(params['lhs_dilation'])
  if name.startswith('dot_product_attention'):
    batch, queries, heads, width = equation.invars[0].aval.shape
    once = 4 * batch * heads * queries * equation.invars[1].aval.shape[1] * width
    return once * (2.5 if 'bwd' in name else 1)
  return 0.0


def size(program: Any) -> int:
  """Operations as written, a loop's body once: what a compiler has to look at."""
  count = 0
  for equation in program.eqns:
    inner = _within(equation)
    count += sum(map(size, inner)) if inner else 1
  return count


def live_bytes(program: Any, *, donated: bool = False, fused: bool = False, wide: bool = False) -> int:
  """The most bytes that are alive at once beside the arguments, in the order in which the program is written.

  An estimate of what a device needs: compilers also reorder, and compute again what is cheap.

  Args:
    program: from `trace`.
    donated: results take the place of arguments, as those of a training step do.
    fused: what is made element by element is not stored but made where it is used, as accelerators' compilers do.
    wide: as of `cost`.
  """
  equations = list(_needed(program))[::-1]
  results = {variable for variable in program.outvars if _is_variable(variable)}
  made_of: dict[Any, frozenset[Any]] = {}
  stored, read = [], []
  for equation in equations:
    parts = [made_of.get(v, frozenset((v,))) for v in equation.invars if _is_variable(v)]
    sources = frozenset[Any]().union(*parts)
    cheap = fused and _is_cheap(equation)
    cheap |= wide and equation.primitive.name == 'convert_element_type' and _is_narrowing(equation)
    if cheap and len(sources) <= _MOST_SOURCES and results.isdisjoint(equation.outvars):
      made_of.update(dict.fromkeys(equation.outvars, sources))
    else:
      stored.append(equation)
      read.append(sources)
  kept = frozenset[Any]().union(*(made_of.get(v, frozenset((v,))) for v in results))
  last = {variable: i for i, sources in enumerate(read) for variable in sources}
  ends: dict[int, list[Any]] = {}
  for variable, i in last.items():
    ends.setdefault(i, []).append(variable)
  sizes: dict[Any, int] = {}
  live = most = 0
  for i, equation in enumerate(stored):
    for variable in equation.outvars:
      sizes[variable] = 0 if donated and variable in results else _bytes(variable, wide)
    made = sum(sizes[variable] for variable in equation.outvars)
    live += made
    within = max((live_bytes(inner, fused=fused, wide=wide) for inner in _within(equation)), default=0)
    # What a called program puts out is among what is alive in it; a loop collects or carries it beside.
    most = max(most, live + (within if equation.primitive.name == 'scan' else max(within - made, 0)))
    gone = [variable for variable in ends.get(i, ()) if variable not in kept]
    unused = [variable for variable in equation.outvars if variable not in last and variable not in kept]
    live -= sum(sizes.get(variable, 0) for variable in (*gone, *unused))
  return most


def _is_narrowing(equation: Any) -> bool:
  """Whether it turns float32 into bfloat16 or back."""
  dtypes = {v.aval.dtype.name for v in (*equation.invars, *equation.outvars)}
  return dtypes == {'float32', 'bfloat16'}


def _is_cheap(equation: Any) -> bool:
  """Whether it works element by element, or moves elements about, and nothing else."""
  inner = _within(equation)
  if inner and equation.primitive.name not in ('scan', 'cond', 'while'):
    return all(_is_cheap(e) for part in inner for e in part.eqns)
  return equation.primitive.name in _CHEAP


def tree_bytes(shapes: Any) -> int:
  """Of all arrays of a pytree, or of their shapes."""
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _needed(program: Any) -> Iterator[Any]:
  """The equations that results depend on, from the last: compilers leave out the others, such as unused gradients."""
  needed = {variable for variable in program.outvars if _is_variable(variable)}
  for equation in reversed(program.eqns):
    if any(variable in needed for variable in equation.outvars):
      needed |= {variable for variable in equation.invars if _is_variable(variable)}
      yield equation


def _is_variable(atom: Any) -> bool:
  return not hasattr(atom, 'val')  # a literal has one


def _bytes(variable: Any, wide: bool) -> int:
  aval = variable.aval
  if not hasattr(aval, 'shape'):
    return 0
  return math.prod(aval.shape) * (4 if wide and aval.dtype == 'bfloat16' else aval.dtype.itemsize)


def _within(equation: Any) -> list[Any]:
  """`_inner`, or the branches of a conditional."""
  return [branch.jaxpr for branch in equation.params.get('branches', ())] or _inner(equation.params)


def _inner(params: Mapping[str, Any]) -> list[Any]:
  """The programs within an equation: of jit, scan, remat, custom derivatives."""
  return [
    getattr(params[key], 'jaxpr', params[key])
    for key in ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
    if key in params
  ]
