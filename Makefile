# make demo    the whole job by itself (DATA=folder runs it on real images)
# make test    lint, types, tests and coverage
# make lint    ruff and mypy alone
# make bench   latency of the exported graph and of its bare encoder here (BUNDLE=file)
# Needs: python3 (>= 3.10) with its venv module, and make. Everything else comes by itself.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= $(if $(DATA),demo-own,demo)
BUNDLE ?= $(OUT)/line.cada
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: setup demo test lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is older than 3.10; use: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "the venv module is missing; use: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/cada-edge demo --out $(OUT) $(if $(DATA),--data $(DATA))

test: lint
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --show-missing

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy cada_edge tests

bench: $(STAMP)
	$(BIN)/python tests/bench_latency.py $(BUNDLE)

clean:
	rm -rf $(VENV) build dist demo demo-own .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* *.egg-info
