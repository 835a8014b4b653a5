# Two commands: `make figures` and `make test`. Each makes .venv first when it is missing. `make redraw` trains nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV = .venv
RUN = $(VENV)/bin/python -m

.PHONY: figures redraw test lab bench check clean

# `make redraw` takes the largest size that data/reference holds.
figures lab: PROFILE ?= quick
redraw: PROFILE ?= standard

figures: $(VENV)/ready
	$(RUN) alsiseg figures --profile $(PROFILE)

redraw: $(VENV)/ready
	$(RUN) alsiseg figures --profile $(PROFILE) --redraw

test: $(VENV)/ready check
	$(RUN) pytest

check: $(VENV)/ready
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

lab: $(VENV)/ready
	ALSISEG_PROFILE=$(PROFILE) $(RUN) jupyter lab notebooks

bench: $(VENV)/ready
	$(RUN) pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[all,bench]'
	$(VENV)/bin/python benchmarks/bench_phantom.py
	$(VENV)/bin/python benchmarks/bench_topology.py
	$(VENV)/bin/python benchmarks/bench_training.py
	$(VENV)/bin/python benchmarks/bench_prediction.py

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "alsiseg needs Python 3.11 or newer, found " + sys.version.split()[0] + "; say PYTHON=/path/to/python3.11")'
	@echo "Installing into $(VENV): a few minutes, about 3 GB"
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
