# make demo, make test and make lint each build the environment first when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo demo-from-scratch test lint lock clean

demo: $(READY)
	$(BIN)/rgc run all --config demo

demo-from-scratch: $(READY)
	$(BIN)/rgc run all --config demo-from-scratch

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rgc needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

lock: pyproject.toml
	uv pip compile --quiet --generate-hashes --universal --no-emit-index-url --python-version 3.11 --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .rgc
