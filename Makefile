# Two commands do all the set-up: `make demo` and `make test`. The rest builds on the same .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all torture bench bench-quick check format clean

$(STAMP): pyproject.toml constraints/dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/dev.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/dev.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## the whole story offline on a CPU
	$(BIN)/pilotfish demo

test: $(STAMP)  ## the default tests: CPU, offline, minutes
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu and not network"

test-all: $(STAMP)  ## the slow tests too
	$(BIN)/python -m pytest -n 2

FIGURES := $(CURDIR)/build/torture.jsonl

torture: $(STAMP)  ## every sweep behind docs/promises.md, in full; writes its table
	mkdir -p build && rm -f $(FIGURES)
	PILOTFISH_TORTURE=$(FIGURES) $(BIN)/python -m pytest -n 2 --dist worksteal -m "torture and not gpu and not network"
	$(BIN)/python -m tests.torture $(FIGURES)

bench: $(STAMP)  ## every benchmark, on a quiet machine; writes results and docs/benchmarks.md
	$(BIN)/python -m benchmarks

bench-quick: $(STAMP)  ## the same in minutes, into build/benchmarks
	$(BIN)/python -m benchmarks --quick

check: $(STAMP)  ## format, lint, strict types, structure
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_structure.py

format: $(STAMP)
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
