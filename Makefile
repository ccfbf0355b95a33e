# `make search` answers the example question, `make test` runs everything that a change must pass.
# Both make the virtual environment .venv on their first run; PYTHON chooses its interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRIALS ?= 2000
SEED ?= 1
MEASURED ?= ../shared/validation
COMPILED := same_bytes or literal_optimum or batch_equals_its_designs or test_conventions or test_deep or test_cost_deep or test_random_pairs
EXAMPLE := tests/third_party/pentarch_example

.PHONY: help search test lint format docs calibrations clean
.DEFAULT_GOAL := help

help:
	@echo "make search   search the space edge-soc and write a report (TRIALS=$(TRIALS) SEED=$(SEED))"
	@echo "make test     linters, types, import rules, and all tests with coverage"
	@echo "make lint     linters, types and import rules only"
	@echo "make format   rewrite the code in the project's format"
	@echo "make docs     the documentation site in site/, checked strictly"
	@echo "make calibrations  every shipped fit again, from the files in MEASURED=$(MEASURED)"
	@echo "make clean    remove .venv, caches and build outputs (runs/ stays)"

# Each stamp says that the environment holds what the files it depends on ask for.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "pentarch needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/developing: $(VENV)/installed $(EXAMPLE)/pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dev,browser,docs]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable $(EXAMPLE)
	touch $@

# The tests against transformers need torch. Where it cannot be had they say why, as noted here: they
# fail where CI=true, and are skipped elsewhere.
$(VENV)/validating: $(VENV)/developing
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[validation]' \
	  2>$(VENV)/validation-problem; then rm $(VENV)/validation-problem; touch $@; \
	else echo "The tests against transformers cannot run:" >&2; cat $(VENV)/validation-problem >&2; fi

$(VENV)/documenting: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

search: $(VENV)/installed
	$(BIN)/pentarch search edge-soc --trials $(TRIALS) --seed $(SEED)

lint: $(VENV)/developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Compiled kernels are invisible to the coverage tool, so their tests run once more uncompiled, but
# for those that compare with the compiler or would take minutes without it.
test: lint $(VENV)/validating
	$(BIN)/coverage erase
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q --cov --cov-report= -k "not ($(COMPILED))" tests/unit/mapping
	$(BIN)/python -m pytest --cov --cov-append --cov-report=term --cov-fail-under=90

format: $(VENV)/developing
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# A broken link or a reference page that is out of date is an error.
docs: $(VENV)/documenting
	$(BIN)/python docs/make_reference.py --check
	$(BIN)/python -m sphinx -E -W --keep-going -n -q -b html -d build/doctrees docs site

# Half an hour of one core. The result depends on the files in MEASURED alone.
calibrations: $(VENV)/developing
	$(BIN)/python tests/validation/make_calibrations.py $(MEASURED)

clean:
	rm -rf $(VENV) build dist htmlcov site .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find framework plugins spaces tests -name __pycache__ -type d -prune -exec rm -rf {} +
