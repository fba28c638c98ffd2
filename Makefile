# `make demo` and `make test` need nothing but Python 3.11 or later: they make .venv and install into it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: demo test slow lint check bench docs clean

# The marker files say what has been installed, so that a second `make` starts at once.
$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.base           ## the whole loop on a corpus with a planted truth, no downloads of models or data
	$(BIN)/raison demo --out raison-demo

test: $(VENV)/.dev            ## the quick tests, and the docs with warnings as errors
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not slow'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

slow: $(VENV)/.dev            ## the slow tests: trainings, all records of the real data, whole simulations
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow

lint: $(VENV)/.dev            ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint                   ## before each commit: style, types, quick tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m 'not slow'

bench: $(VENV)/.dev           ## speed and memory beside the peers; see benchmarks/README.md
	$(BIN)/python benchmarks/attribution.py

docs: $(VENV)/.dev
	$(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) raison-demo build dist site .pytest_cache .ruff_cache
