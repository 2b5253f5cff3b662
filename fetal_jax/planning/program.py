"""Cost and memory of a program, counted in its jaxpr: nothing is compiled and no array is made."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

# Operations that a compiler folds into others.
_FOLDED = 'broadcast_in_dim reshape squeeze transpose convert_element_type copy iota stop_gradient optimization_barrier'
# Operations that work element by element or move elements.
_ELEMENTWISE = """
  abs add add_any and bitcast_convert_type clamp concatenate cos div eq erf erf_inv exp expm1 floor ge gt integer_pow
  is_finite le log log1p logistic lt max min mul ne neg not or pad pow rev rsqrt select_n shift_left shift_right_logical
  sign sin slice split sqrt square sub tanh xor
"""
_FREE = frozenset(_FOLDED.split())
_CHEAP = _FREE | frozenset(_ELEMENTWISE.split())
_MOST_SOURCES = 4  # arrays that a recomputed result may need; more would keep too much alive


@dataclasses.dataclass(frozen=True)
class Cost:
  """Cost of a program, or of several.

  Attributes:
    flops: floating-point operations of convolutions and matrix products, two a multiply-add.
    bytes: what all operations write, before a compiler fuses them.
    operations: operations carried out, a loop's body as often as it runs, before a compiler fuses them.
  """

  flops: float = 0.0
  bytes: float = 0.0
  operations: float = 0.0

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(self.flops + other.flops, self.bytes + other.bytes, self.operations + other.operations)

  def __mul__(self, times: float) -> 'Cost':
    return Cost(self.flops * times, self.bytes * times, self.operations * times)


def trace(function: Callable[..., Any], *args: Any) -> Any:
  """Returns the program (jaxpr) of a call with arrays, or their shapes, as arguments."""
  return jax.make_jaxpr(function)(*args).jaxpr


def trace_with_shapes(function: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
  """Returns `trace`, and the shapes of the results as from `jax.eval_shape`."""
  program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
  return program.jaxpr, shapes


def cost(program: Any, *, wide: bool = False) -> Cost:
  """Counts the program as written, loops as often as they run, and of a conditional the branch that costs most.

  Args:
    program: from `trace`.
    wide: count bfloat16 arrays as float32, as if the program had been traced in float32.
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
  """Returns the FLOPs of a convolution or a matrix product; 0 for other operations."""
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    out_features = kernel[params['dimension_numbers'].rhs_spec[0]]
    # Zeros between the pixels (in the gradient of a stride) cost nothing.
    macs = math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / out_features
    return 2 * macs / math.prod(params['lhs_dilation'])
  if name.startswith('dot_product_attention'):
    batch, queries, heads, width = equation.invars[0].aval.shape
    once = 4 * batch * heads * queries * equation.invars[1].aval.shape[1] * width
    return once * (2.5 if 'bwd' in name else 1)
  return 0.0


def size(program: Any) -> int:
  """Counts operations as written, a loop's body once: the work of a compiler."""
  count = 0
  for equation in program.eqns:
    inner = _within(equation)
    count += sum(map(size, inner)) if inner else 1
  return count


def live_bytes(program: Any, *, donated: bool = False, fused: bool = False, wide: bool = False) -> int:
  """Returns the most bytes alive at once, arguments aside, in the order in which the program is written.

  This estimates what a device needs; compilers also reorder operations, and recompute cheap ones.

  Args:
    program: from `trace`.
    donated: results take the place of arguments, as in a training step.
    fused: results of elementwise operations are not stored but computed where they are used, as on accelerators.
    wide: as in `cost`.
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
    # The results of a called program are among what is alive in it; a loop has its results beside its body.
    most = max(most, live + (within if equation.primitive.name == 'scan' else max(within - made, 0)))
    gone = [variable for variable in ends.get(i, ()) if variable not in kept]
    unused = [variable for variable in equation.outvars if variable not in last and variable not in kept]
    live -= sum(sizes.get(variable, 0) for variable in (*gone, *unused))
  return most


def _is_narrowing(equation: Any) -> bool:
  """Returns whether an equation converts float32 to bfloat16 or back."""
  dtypes = {v.aval.dtype.name for v in (*equation.invars, *equation.outvars)}
  return dtypes == {'float32', 'bfloat16'}


def _is_cheap(equation: Any) -> bool:
  """Returns whether an equation only works element by element or moves elements."""
  inner = _within(equation)
  if inner and equation.primitive.name not in ('scan', 'cond', 'while'):
    return all(_is_cheap(e) for part in inner for e in part.eqns)
  return equation.primitive.name in _CHEAP


def tree_bytes(shapes: Any) -> int:
  """Returns the bytes of all arrays, or shapes of arrays, in a pytree."""
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _needed(program: Any) -> Iterator[Any]:
  """Yields the equations that results depend on, from the last. Compilers drop the others, such as unused gradients."""
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
  """Returns `_inner`, or the branches of a conditional."""
  return [branch.jaxpr for branch in equation.params.get('branches', ())] or _inner(equation.params)


def _inner(params: Mapping[str, Any]) -> list[Any]:
  """Returns the programs within an equation: of jit, scan, remat, custom derivatives."""
  return [
    getattr(params[key], 'jaxpr', params[key])
    for key in ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
    if key in params
  ]
