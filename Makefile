# One virtual environment, made once; every target below can be the first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed
PEERS := .venv-peers
PEERS_SETUP := $(PEERS)/.installed
ROOT ?= atlas

.PHONY: demo test lint docs-check docs benchmark benchmark-peers benchmark-gpu zoo clean

demo: $(SETUP)
	$(BIN)/activarium demo --root $(ROOT)

test: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m activarium.schemas.documentation --check docs
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(SETUP)
	$(BIN)/pre-commit run --all-files

docs: $(SETUP)
	$(BIN)/python -m activarium.schemas.documentation docs

# Every ratio of docs/performance.md but those of peers and of GPUs.
benchmark: $(SETUP)
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/writing.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/class_statistics.py
	$(BIN)/python benchmarks/permutation_speed.py
	$(BIN)/python benchmarks/block_scheduling.py
	$(BIN)/python benchmarks/statistics_growth.py
	$(BIN)/python benchmarks/whole_analysis.py --case classes
	$(BIN)/python benchmarks/similarity.py
	$(BIN)/python benchmarks/embedding.py

# Recording again, with thingsvision and torchlens, and the Wilcoxon tests of illico and scanpy, in
# an environment of their own (6 GB).
benchmark-peers: $(PEERS_SETUP)
	PYTHONPATH=.src $(PEERS)/bin/python benchmarks/recording.py
	PYTHONPATH=.src $(PEERS)/bin/python benchmarks/statistics_peers.py

# Every architecture of torchvision and timm: many hours; goes on where it was stopped.
zoo: $(SETUP)
	$(BIN)/python benchmarks/zoo.py --families --table

# Needs torch, torchvision, numpy and zarr alone, of any environment: make benchmark-gpu PYTHON=...
benchmark-gpu:
	PYTHONPATH=.src $(PYTHON) benchmarks/gpu.py

clean:
	rm -rf $(VENV) $(PEERS)

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d; try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(SETUP)

$(PEERS_SETUP): benchmarks/peers-requirements.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt --requirement benchmarks/peers-requirements.txt
	$(PEERS)/bin/python -m pip install --quiet --no-deps thingsvision==2.7.3
	touch $(PEERS_SETUP)
