# Every target works as the first command on a fresh machine: each depends on the environment, which is made once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Modules are compiled once, not by each of the many processes that import torch, whatever the caller's environment says.
export PYTHONDONTWRITEBYTECODE :=
UV_VERSION := 0.13.9
UV := .setup/uv-$(UV_VERSION)/bin/uv

.PHONY: setup demo test lint readme bench clean lock

setup: $(READY)

$(UV):
	$(if $(shell command -v uv),uv pip,$(PYTHON) -m pip) install --quiet --target .setup/uv-$(UV_VERSION) uv==$(UV_VERSION)

$(READY): $(UV) requirements.lock pyproject.toml
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.14' .venv
	$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
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

readme: setup  ## run the commands of README.md
	$(BIN)/python tools/readme.py

bench: setup
	@for script in $(filter-out benchmarks/thermal_trial.py benchmarks/studies.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock: $(UV)  ## pin what pyproject.toml asks for, with hashes; a pin that still fits stays (UPGRADE=--upgrade: none does)
	$(UV) pip compile --quiet --universal --python-version 3.11 --extra all --extra dev --generate-hashes \
		--no-annotate --no-header --no-emit-index-url $(UPGRADE) --output-file requirements.lock pyproject.toml

clean:  ## remove what the targets made, the runs in outputs/ excepted
	rm -rf .venv .setup data .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
