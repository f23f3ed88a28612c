# Every target works as the first command on a fresh machine: each depends on the environment, which is made once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Modules are compiled once, not by each of the many processes that import torch, whatever the caller's environment says.
export PYTHONDONTWRITEBYTECODE :=
UV := $(shell command -v uv || echo .setup/bin/uv)

.PHONY: setup demo test lint bench clean lock

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@command -v $(UV) >/dev/null || { echo "uv is missing: fetching it into .setup/"; \
		$(PYTHON) -m pip install --quiet --target .setup uv; }
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.14' .venv
	$(UV) pip sync --quiet --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: setup  ## fine-tune the shipped tiny model on soundscapes and say what that did to its phonemes
	$(BIN)/w2v-abx train experiment=demo

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock:  ## pin every version anew from pyproject.toml
	@command -v $(UV) >/dev/null || $(PYTHON) -m pip install --quiet --target .setup uv
	$(UV) pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate --no-header \
		--no-emit-index-url --output-file requirements.lock pyproject.toml

clean:  ## remove what the targets made, the runs in outputs/ excepted
	rm -rf .venv .setup data .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
