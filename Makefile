# evovlm: targets that need .venv create it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest

# Two processes with one thread each. A file's tests stay together because they share expensive fixtures.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile
# Tests that load no model and run no kernel in the interpreter: arithmetic, numbers, files.
SMALL := tests/methods tests/recipe tests/search tests/system tests/tasks/metrics \
	tests/test_architecture.py tests/test_lower_bounds.py --ignore=tests/methods/kernels \
	--ignore=tests/recipe/mergekit/test_merges.py --ignore=tests/recipe/mergekit/test_stacks.py \
	--ignore=tests/recipe/mergekit/test_tokenizer.py --ignore=tests/recipe/mergekit/test_values.py
# Without the longest of them.
QUICK := $(SMALL) --ignore=tests/methods/test_merge.py --ignore=tests/methods/test_drop.py \
	--ignore=tests/methods/test_plugin_faults.py --ignore=tests/methods/test_spherical.py \
	--ignore=tests/methods/test_consensus.py --ignore=tests/methods/test_singular_methods.py --ignore=tests/search/searchers \
	--ignore=tests/system/test_fork_pool.py --ignore=tests/tasks/metrics/test_rouge.py \
	--ignore=tests/tasks/metrics/test_numbers.py --ignore=tests/recipe/mergekit --ignore=tests/recipe/test_vlms.py

.DEFAULT_GOAL := help
.PHONY: help install demo check quick test test-all test-lowest app browser lint clean

help:
	@echo "make install      create .venv with everything that demo, tests and app need"
	@echo "make demo         evolve a merge on the zoo, write checkpoint, table and report to runs/demo"
	@echo "make app          open the app on the zoo"
	@echo "make check        style, types, imports between rooms, and the quick tests: under a minute"
	@echo "make test         style, types, imports, and all tests except slow ones: under ten minutes"
	@echo "make test-all     every test, including browser, kill-and-resume, container and wheel, more examples: under 40 minutes"
	@echo "make test-lowest  tests without models, with the lowest versions that pyproject.toml allows, in .venv-lowest"
	@echo "make browser      install the browser for the tests of the app (Debian, as root)"
	@echo "make clean        remove environments, runs and caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "evovlm needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[app,dev,optuna,ray]'
	@touch $(STAMP)

demo: install
	$(BIN)/evovlm evolve zoo-vlm --out runs/demo --checkpoint

# Linters run in parallel with the tests, because mypy without its cache takes half a minute of one core.
check: install
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint quick

# In one process: importing torch and the rest takes as long as these tests, and linters need the other core.
quick: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" $(QUICK)

test: lint
	$(PYTEST) -m "not slow" --durations=10

test-all: lint
	$(PYTEST) --no-loadscope-reorder --hypothesis-profile=thorough --durations=20

test-lowest:
	PYTHON=$(PYTHON) sh scripts/test_lowest.sh $(LOWEST) $(SMALL)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

app: install
	$(BIN)/evovlm app

browser:
	sh scripts/install_browser.sh

clean:
	rm -rf $(VENV) $(LOWEST) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
