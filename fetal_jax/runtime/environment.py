"""Environment variables that others set: what they may be, and JAX, which reads many of them when it is loaded."""

import os

from fetal_jax.runtime.errors import UserError


def number(name: str, default: int, least: int = 0) -> int:
  """Returns the whole number that a variable holds, `default` where it is not set or empty.

  Raises:
    UserError: it holds something else.
  """
  text = os.environ.get(name, '')
  if not text:
    return default
  if not (len(text) <= 10 and text.isascii() and text.isdecimal() and least <= int(text) < 2**31):
    raise UserError(
      f'{name}={text}: this environment variable must be a whole number from {least} on; unset it'
    )
  return int(text)


def load_jax() -> None:
  """Loads JAX.

  Raises:
    UserError: it refuses a variable of the environment, such as `JAX_ENABLE_X64=maybe`.
  """
  try:
    import jax  # noqa: F401
  except ValueError as error:
    raise UserError(
      f'JAX refuses an environment variable ({" ".join(str(error).split())}); mend or unset it'
    ) from error
