"""The errors that a user is meant to read."""


class UserError(Exception):
  """Something the user can mend: one line that says what, where, and what to do.

  `fetal_jax.main` prints it without a traceback and exits with code 2.
  """


class DamagedFile(UserError, ValueError):
  """A file of a run that is not what was written: cut off, changed, or not what its name says."""
