# Each target does all of its own set-up: an environment in .venv, the package installed as anybody would install it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := setup.cfg pyproject.toml $(shell find src models guides inference -name '*.py' -o -name '*.html')

.PHONY: compare test lint types tests notebooks bench grid clean

compare: $(VENV)/.installed  ## L_A against L_B on the digits
	$(BIN)/aevb compare

test: lint types tests  ## everything that CI checks

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested
	$(BIN)/mypy

tests: $(VENV)/.tested  ## tests and the README's code, then the docstrings, on the installed package
	$(BIN)/pytest
	$(BIN)/pytest --doctest-modules --pyargs aevb

notebooks: $(VENV)/.tested  ## execute them and keep the results
	$(BIN)/python notebooks/execute.py

bench: $(VENV)-bench/.installed  ## speed, side by side with peers, in an environment of its own; writes results/speed
	$(VENV)-bench/bin/python -m benchmarks.bench --to-bounds 30

grid: $(VENV)/.tested  ## train every combination of parts for fifty steps, hours of it; goes on where it was stopped
	$(BIN)/python results/grid.py runs/grid.csv

$(VENV)-bench/.installed: $(SOURCES) benchmarks/requirements.txt
	test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	rm -rf build
	$(VENV)-bench/bin/pip install --quiet --disable-pip-version-check . -r benchmarks/requirements.txt
	touch $@

$(VENV)/.installed: $(SOURCES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aevb needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-bench build src/aevb.egg-info .pytest_cache .mypy_cache .ruff_cache
