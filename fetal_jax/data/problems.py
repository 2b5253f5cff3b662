"""All that is wrong with an input, said in one go: a user who mends one thing must not find the next one only then."""

from fetal_jax.runtime.errors import UserError

MOST = 20  # that a message names


class Problems:
  """What is wrong with an input; keeps the first `MOST` and counts the others.

  Args:
    where: names the input in a message of several problems.
    joint: stands between the things and what is wrong with them.
  """

  def __init__(self, where: str, joint: str = ': ') -> None:
    self._where, self._joint = where, joint
    self._count = 0
    self._named: dict[str, list[str]] = {}  # why, and what to do -> the things that are wrong so

  def __len__(self) -> int:
    return self._count

  def add(self, what: str, why: str) -> None:
    """Notes that `what`, such as a file, is wrong; `why` says in what way, and what to do."""
    self._count += 1
    if self._count <= MOST:
      self._named.setdefault(why, []).append(what)

  def check(self) -> None:
    """Raises UserError, in one line, if anything was added."""
    if self._count == 1:
      ((why, (what,)),) = self._named.items()
      raise UserError(f'{what}{self._joint}{why}')
    if self._count:
      first = '' if self._count <= MOST else f', of which the first {MOST} are'
      causes = '. '.join(f'{", ".join(things)}{self._joint}{why}' for why, things in self._named.items())
      raise UserError(f'{self._where}: {self._count:,} things are wrong{first}: {causes}')
