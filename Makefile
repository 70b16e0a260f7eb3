# Two commands do everything on a machine that has Python 3.11+, make and a package registry:
#   make demo    set up, start the service, run the main job on real images
#   make test    set up, lint, type-check, check the import contract, run the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint format types contract unit bench serve clean

demo: $(STAMP)
	$(BIN)/offshelf demo

test: lint types contract unit

serve: $(STAMP)
	$(BIN)/offshelf serve

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile
	$(BIN)/yamllint --strict docker-compose.yml deploy
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

contract: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest --cov --cov-report=term

bench: $(STAMP)
	GOMP_SPINCOUNT=5000 $(BIN)/python -m benchmarks  # as the worker sets it for itself

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "offshelf needs Python 3.11 or newer; say which with: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[worker,embedded,dev]'
	touch $@

clean:
	rm -rf $(VENV) .offshelf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
