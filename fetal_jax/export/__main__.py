"""The command `python -m fetal_jax.export`."""

import sys

from fetal_jax.export import main

sys.exit(main(sys.argv[1:]))
