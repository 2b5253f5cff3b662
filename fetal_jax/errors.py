"""The one error that a user is meant to read."""


class UserError(Exception):
  """Something the user can mend: one line that says what, where, and what to do.

  `fetal_jax.main` prints it without a traceback and exits with code 2.
  """
