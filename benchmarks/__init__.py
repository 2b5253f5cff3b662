"""Measures fetal_jax on this machine, beside its peers in PyTorch: `make bench`, or `python -m benchmarks`."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ('peaks', 'sampling', 'step', 'training', 'classifiers', 'scan', 'startup')
