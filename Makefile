# One virtual environment, made once; every target below can be the first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
ROOT ?= atlas

.PHONY: demo test lint docs-check docs benchmark clean

demo: $(SETUP)
	$(BIN)/activarium demo --root $(ROOT)

test: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m activarium.schemas.documentation --check docs
	$(BIN)/pytest

lint: $(SETUP)
	$(BIN)/pre-commit run --all-files

docs: $(SETUP)
	$(BIN)/python -m activarium.schemas.documentation docs

benchmark: $(SETUP)
	$(BIN)/python benchmarks/main_job.py

clean:
	rm -rf $(VENV)

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d; try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(SETUP)
