# make run   sets up and carries out the main job: one deep network, pruned four ways, and a page that shows why
# make test  sets up and runs every check: tests, doctests, ruff, mypy

VENV := .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
READY := $(VENV)/.ready
WORKERS ?= 2

.PHONY: run test setup clean

# The layers are so small that a second thread gains nothing, and where other programs compute too it costs three times
# the time. The numbers are the same.
run: $(READY)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV)/bin/pruneinit compare --config recipes/deep-tanh.yaml

test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal --durations 20

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pruneinit needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(VENV)/bin/pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build
