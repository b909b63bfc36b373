# Two commands on a fresh machine: `make run` and `make test`. Each sets itself up.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DOCS := .venv/.docs
STUDY ?= ablations.yaml
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
define NOT_INSTALLED
{ df -h . "$${TMPDIR:-/tmp}"; \
  echo "The installation failed, for the reason above. A whole one needs 7 GB here, and 3 GB more for its temporary files"; \
  echo "until it ends (TMPDIR=/another/folder moves them). Then run the same command again."; exit 1; }
endef

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY)  ## create .venv from pyproject.toml with the tested versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	@echo "installing into .venv, which takes some minutes"
	@$(INSTALL) '.[dev]' || $(NOT_INSTALLED)
	@touch $@

run: $(READY)  ## train, measure and compare every variant of ablations.yaml
	$(BIN)/harness run-grid $(STUDY)

report: $(READY)  ## write the tables and figures again from what is there
	$(BIN)/harness report $(STUDY)

ui: $(READY)  ## open the tracking server's pages on this machine
	$(BIN)/harness ui $(STUDY)

docs: $(DOCS)  ## build the documentation with its references into site/, to be opened as a file
	$(BIN)/python -m tools.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo site/index.html

$(DOCS): $(READY)
	@$(INSTALL) '.[docs]' || $(NOT_INSTALLED)
	@touch $@

bench: $(READY)  ## seconds per training step, where they go, and what the machine could do (ARGS="--steps 9")
	$(BIN)/python -m tools.bench $(ARGS)

weights: $(READY)  ## train the embedded encoders again (half an hour on 2 cores; the origin: .venv/bin/python -m tools.weights.origin)
	$(BIN)/python -m tools.weights

test: $(READY)  ## the tests: CPU, offline, minutes
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto

test-slow: $(READY)  ## the tests that take longer, and more examples of those that draw them
	TESTS_THOROUGH=1 $(BIN)/python -m pytest -m '(slow or fuzz) and not gpu'

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test  ## what a change must pass, beside docs

clean:  ## remove the environment and tool caches; runs, reports and the tracking store stay
	rm -rf .venv build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help setup run report ui docs bench weights test test-slow lint types check clean
