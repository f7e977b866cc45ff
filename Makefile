# Every target sets up what it needs in .venv first. PYTHON=python3.13 picks an interpreter (3.11 or
# later); RUNTIME=gpu takes ONNX Runtime for NVIDIA GPUs, and RUNTIME=cpu goes back.
PYTHON ?= python3
RUNTIME ?= cpu
OTHER_RUNTIME := $(if $(filter gpu,$(RUNTIME)),cpu,gpu)
OTHER_BUILD := $(if $(filter gpu,$(RUNTIME)),onnxruntime,onnxruntime-gpu)
BIN := .venv/bin
PARALLEL := --numprocesses $(shell expr $$(nproc) + 1) --dist loadfile --no-loadscope-reorder  # one worker more than cores: tests wait; the tests of a file share servers and bundles
# Tests without a training, a server or a process of their own.
FAST := tests/docs tests/test_architecture.py tests/test_makefile.py \
	$(addprefix tests/models/,contract calibration evaluation objectives analysis) \
	$(addprefix tests/service/,drift/statistics drift/report edge inference labelling/samples formats v2)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

ifeq ($(filter cpu gpu,$(RUNTIME)),)
$(error RUNTIME is cpu or gpu, not '$(RUNTIME)')
endif

.PHONY: help run demo demo-loop check test lint format bench lock

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: .venv/run-$(RUNTIME)  ## Serve bundles/ on http://127.0.0.1:8000 (needs no torch)
	@LOSSCAST_PROVIDER="$${LOSSCAST_PROVIDER:-$(RUNTIME)}" $(BIN)/losscast serve

demo: .venv/demo-$(RUNTIME)  ## Post canvases to a service of its own, lease, label, and draw what happened
	@$(BIN)/python demo/digits.py

demo-loop: .venv/loop-$(RUNTIME)  ## Let a model meet new traffic, learn it from labels, and go live again (4 minutes)
	@$(BIN)/python demo/loop.py

check: lint  ## Run the linters and the fast tests: before every commit
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(FAST)

test: .venv/test-$(RUNTIME)  ## Run all tests
	@$(BIN)/python -m pytest $(PARALLEL)

lint: .venv/test-$(RUNTIME)  ## Check style, types and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --num-workers 2
	@$(BIN)/lint-imports

format: .venv/test-$(RUNTIME)  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: .venv/test-$(RUNTIME)  ## Measure LearningLoss++ beside Learning Loss on digits (minutes)
	@$(BIN)/python -m benchmarks.objectives.heads

lock: .venv/test-$(RUNTIME)  ## Write constraints.txt from what is installed
	@$(BIN)/python -m pip freeze --exclude-editable | grep -vE '^(torch|nvidia-|triton=)' > constraints.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Losscast needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv

# The two builds of ONNX Runtime own the same folder: uninstalling one breaks the other, so both go.
.venv/run-$(RUNTIME) .venv/demo-$(RUNTIME) .venv/loop-$(RUNTIME) .venv/test-$(RUNTIME): .venv/bin/python pyproject.toml constraints.txt
	@echo "Setting up .venv for make $(@F:-$(RUNTIME)=) ..."
	@if $(BIN)/python -m pip show --quiet $(OTHER_BUILD) 2>/dev/null; then \
		rm -f .venv/*-$(OTHER_RUNTIME); \
		$(BIN)/python -m pip uninstall --quiet --yes onnxruntime onnxruntime-gpu; \
	fi
	@$(PIP) --editable ".[$(RUNTIME)$(EXTRAS)]"
	@touch $@

.venv/demo-$(RUNTIME): EXTRAS := ,demo
.venv/loop-$(RUNTIME): EXTRAS := ,train,demo
.venv/test-$(RUNTIME): EXTRAS := ,train,demo,otel,test
