# `make demo` and `make test` do everything on a fresh machine: Python >= 3.11, make, and a network to the
# package registry are all they need.
PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= runs/demo

.PHONY: demo test test-slow torture mutants soak bench docs lint format clean

demo: .venv/installed
	$(BIN)/python -m fetal_jax.main --config=configs/demo.py --workdir=$(WORKDIR)

# Every module, in some minutes.
test: .venv/installed
	$(BIN)/python -m pytest

# The long repetitions, some eight minutes on two cores: references compiled as for users, each given to whoever is free;
# then kills, several processes, all families, all notebooks, mutants, and fuzz with ten times the examples.
test-slow: .venv/installed
	FETAL_JAX_OPTIMISE=1 $(BIN)/python -m pytest -m reference --dist=worksteal
	FETAL_JAX_EXAMPLES=10 $(BIN)/python -m pytest -m '(slow and not reference) or fuzz'

# 60 SIGKILLs over all stages; half an hour of training and sampling.
torture: .venv/installed
	$(BIN)/python tests/tools/torture.py

# 60 changed lines, and whether tests notice; half an hour.
mutants: .venv/installed
	$(BIN)/python tests/tools/mutants.py

soak: .venv/installed
	$(BIN)/python tests/tools/soak.py

# BENCH='--only=peaks,sampling' runs parts. Peers need `.venv/bin/python -m pip install '.[bench]'` or BENCH=--peer_python=...
bench: .venv/installed
	$(BIN)/python -m benchmarks $(BENCH)

# The site, in site/index.html.
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: .venv/installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'fetal_jax needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ...'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dev]'
	@touch $@

clean:
	rm -rf .venv .jax_cache build site *.egg-info
