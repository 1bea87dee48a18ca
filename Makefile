# make repro: environment, install, the default pipeline, its metrics.   make test: the same set-up, all tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: repro test floors bench fuzz kills spice clean
.DELETE_ON_ERROR:

repro: $(STAMP) spice
	$(BIN)/python -m earwitness doctor --repair
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc metrics show

test: $(STAMP) spice
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# 2,400 hostile inputs over all loaders, in a few minutes; docs/reliability.md says what is promised
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz

# stages and DVC, killed at random moments; what stands at the end must be the same bytes
kills: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python -m kills 300

# the encoders' tests on the oldest versions that pyproject.toml allows, but on this torch
floors: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.floors $(VENV)/floors

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# SPICE's language models come from Maven, or from where pycocoevalcap gets them; without them the
# scores are made without SPICE, by name
spice: $(STAMP)
	$(BIN)/python -m pipeline.metrics.spice_install data/tools/spice

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) data/partial data/checkpoints
