# Every target sets up what it needs in .venv first. PYTHON=python3.13 picks an interpreter (3.11 or
# later); RUNTIME=gpu takes ONNX Runtime for NVIDIA GPUs.
PYTHON ?= python3
RUNTIME ?= cpu
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help run demo test lint format bench lock

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: .venv/run  ## Serve bundles/ on http://127.0.0.1:8000 (needs no torch)
	@$(BIN)/losscast serve

demo: .venv/demo  ## Post canvases to a service of its own, lease, label, and draw what happened
	@$(BIN)/python demo/digits.py

test: .venv/test  ## Run all tests
	@$(BIN)/python -m pytest

lint: .venv/test  ## Check style, types and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/test  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: .venv/test  ## Measure LearningLoss++ beside Learning Loss on digits (minutes)
	@$(BIN)/python benchmarks/objectives.py

lock: .venv/test  ## Write constraints.txt from what is installed
	@$(BIN)/python -m pip freeze --exclude-editable | grep -vE '^(torch|nvidia-|triton)' > constraints.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Losscast needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv

.venv/run .venv/demo .venv/test: .venv/bin/python pyproject.toml constraints.txt
	@echo "Setting up .venv for make $(@F) ..."
	@$(PIP) --editable ".[$(RUNTIME)$(EXTRAS)]"
	@touch $@

.venv/demo: EXTRAS := ,demo
.venv/test: EXTRAS := ,train,demo,test
