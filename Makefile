# make demo: see it work. make test: the tests. make check: all that must hold before a change lands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

# Tests start many processes: let them compile each module once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install install-dev demo test slow check lint format types contracts bench lock clean

help:
	@sed -n 's/^# //p' Makefile
	@echo "targets: install demo test slow check bench lock clean"

install: $(RUN)
install-dev: $(DEV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "deltascale needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUN): requirements/run.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements/dev.txt $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(RUN)
	$(BIN)/deltascale demo

test: $(DEV)
	$(BIN)/python -m pytest -n auto --dist loadfile

slow: $(DEV)
	$(BIN)/python -m pytest -m slow -n auto --timeout 1800

check: $(DEV) lint types contracts test

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)
	$(BIN)/mypy

contracts: $(DEV)
	$(BIN)/lint-imports

bench: $(DEV)
	$(BIN)/python -m benchmarks

# Needs uv. The locks hold hashes and no addresses.
lock:
	uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
		pyproject.toml --group build -o requirements/run.txt
	uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
		-c requirements/run.txt pyproject.toml --all-extras --group build --group dev \
		-o requirements/dev.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
