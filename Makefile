PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.hanpaca-installed

.PHONY: demo test check lint install

# Install, then the whole adaptation of the embedded default on the CPU; the result table at the end.
demo: $(STAMP)
	$(BIN)/hanpaca run quickstart

# Three files of tests at a time, for two cores and tests that wait; the longest first (tests/conftest.py).
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 3 --dist loadfile \
	--no-loadscope-reorder --durations 40

# Lint, types, import rules, all tests.
test: lint
	$(PYTEST)

# The same without tests over five seconds.
check: lint
	$(PYTEST) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

# torch by itself first, so that nothing else picks another build of it.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hanpaca needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@
