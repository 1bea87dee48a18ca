# make repro: environment, install, the default pipeline, its summary.   make test: the same set-up, all tests.
PYTHON ?= python3
# Without a GPU: the address of PyTorch's CPU builds, 4 GB smaller, as pytorch.org's "Start locally" shows
# it for Linux, Pip, CPU:   make repro TORCH_INDEX=ADDRESS
TORCH_INDEX ?=
ifneq ($(TORCH_INDEX),)
ANNOUNCED = will download and install Python packages into $(VENV): about 2.5 GB there, with PyTorch's CPU build
else ifneq ($(shell test "`uname`" = Linux && ! test -e /dev/nvidiactl && echo cpu),)
ANNOUNCED = will download and install Python packages into $(VENV): about 6.4 GB there, 4 GB of it for NVIDIA GPUs, \
  of which none is here. The CPU build of PyTorch does without: Ctrl-C, then make repro TORCH_INDEX=ADDRESS, \
  with the address that pytorch.org, Start locally, gives for Linux, Pip, CPU
else
ANNOUNCED = will download and install Python packages into $(VENV): about 6.4 GB there with CUDA, 2.5 GB without
endif
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
comma := ,

.PHONY: repro test docs floors bench fuzz kills spice clean
.DELETE_ON_ERROR:

repro: $(STAMP)
	@$(BIN)/python -m earwitness.first_run
	$(BIN)/python -m earwitness doctor --repair
	$(BIN)/python -m pipeline.metrics.spice_install data/tools/spice
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m earwitness repro
	@$(BIN)/python -m earwitness summary

test: $(STAMP) spice
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# 2,800 hostile inputs over all loaders, in a few minutes; docs/reliability.md says what is promised
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

# what it will download is said before pip is asked; torch first, so that the rest finds it there
$(STAMP): pyproject.toml
	@test -x $(BIN)/python || echo "$(ANNOUNCED)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url "$(TORCH_INDEX)" "torch>=2.6$(comma)<2.14")
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

# the site, into site/: every link and anchor checked, nothing from other hosts
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) data/partial data/checkpoints site
