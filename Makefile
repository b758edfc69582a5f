# evovlm: `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test app browser lint clean

help:
	@echo "make install   create .venv with all that demo, tests and app need"
	@echo "make demo      evolve a merge on the zoo, write checkpoint, table and report to runs/demo"
	@echo "make app       open the app on the zoo"
	@echo "make browser   install the browser that the tests of the app drive (Debian, as root)"
	@echo "make test      style, types and tests"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "evovlm needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[app,dev,optuna,ray]'
	@touch $(STAMP)

demo: install
	$(BIN)/evovlm evolve zoo-vlm --out runs/demo --checkpoint

# Two processes of one thread each: a file's tests stay together, for they share what is costly to make.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

app: install
	$(BIN)/evovlm app

browser:
	sh scripts/install_browser.sh

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
