# Two commands do everything: `make demo` and `make test`. Each makes .venv and installs
# what it needs first; they need Python 3.11 or newer, make and a C library.

PYTHON ?= python3
RECIPE ?= recipe.yaml
TEST_WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: install demo ui test bench clean
.DELETE_ON_ERROR:

install: $(VENV)/installed

demo: install  ## curate real photographs from raw shards to filtered shards
	$(BIN)/curate demo

ui: install  ## browse what was made, and backfill, at http://127.0.0.1:3000
	$(BIN)/curate ui --recipe $(RECIPE)

test: $(VENV)/installed-dev  ## all tests, on two cores; TEST_WORKERS=0 for one after the other
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks

clean:  ## forget everything made here, the environment too
	rm -rf $(VENV) .dagster demo

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) --editable '.[dev]'
	touch $@
