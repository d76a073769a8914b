# `make run`: the pipeline of config.yaml and its table. `make test`: every test. Both set up VENV
# first, if need be. `make help` lists the rest.

VENV ?= .venv
PYTHON ?= python3
CONFIG ?= config.yaml
CORES ?= all
PORT ?= 6006

# The tested versions are installed, but into an environment of your own only what it lacks.
CONSTRAINTS ?= $(if $(filter .venv,$(VENV)),constraints.txt)
BIN = $(VENV)/bin
STAMP = $(VENV)/.opproof-installed

.DEFAULT_GOAL := help
.PHONY: help env test-env run quick doctor test cluster lint docs timing gpu-check tensorboard example clean clean-checkpoints distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 26

env: ## an environment in VENV (.venv) with all that a run needs
	@$(call install,.,$(STAMP))

test-env:
	@$(call install,.[dev],$(STAMP)-dev)

# Installs $1, unless the stamp $2 is this checkout's, and newer than what says what to install.
define install
if ! [ "$2" -nt pyproject.toml ] || ! [ "$2" -nt constraints.txt ] \
        || [ "$$(cat "$2")" != "$(CURDIR)" ]; then \
    set -e; \
    [ -x "$(BIN)/python" ] || "$(PYTHON)" -m venv "$(VENV)"; \
    echo "installing into $(VENV); torch is large, the first time takes minutes"; \
    "$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
        $(if $(CONSTRAINTS),--constraint "$(CONSTRAINTS)") --editable "$1"; \
    echo "$(CURDIR)" > "$2"; \
fi
endef

run: env ## the pipeline of CONFIG (config.yaml) on CORES (all) cores, and its table
	@"$(BIN)/python" -m opproof run --config "$(CONFIG)" --cores "$(CORES)"

quick: CONFIG = tests/quick.yaml
quick: run ## the same on a small configuration, in two minutes

doctor: env ## whether this machine, and its SLURM, are ready for CONFIG; takes seconds
	@"$(BIN)/python" -m opproof doctor --config "$(CONFIG)"

# Tests of the cluster wait more than they work: more at once than there are cores.
TEST_JOBS ?= 4

# What the report looks like in chromium is then in tests/browser/screenshots/.
test: test-env ## every test; on Debian, as root, with SLURM and chromium (installs their packages)
	@"$(BIN)/python" -m tests.cluster prepare
	@"$(BIN)/python" -m tests.browser prepare
	@"$(BIN)/python" -m tests.machines prepare
	@"$(BIN)/python" -m pytest -n $(TEST_JOBS) --dist loadfile $(PYTEST_ARGS)

cluster: test-env ## a shell in a SLURM of two nodes on this machine; Debian, as root
	@"$(BIN)/python" -m tests.cluster shell

lint: test-env ## style and types, as the tests check them
	@"$(BIN)/python" -m pytest tests/unit/test_style.py

timing: env ## what operators (to 1e8 elements) and training of CONFIG cost: some minutes, alone on the machine
	@"$(BIN)/python" -m opproof build --config "$(CONFIG)"
	@"$(BIN)/python" -m opproof timing operators --config "$(CONFIG)" --large
	@"$(BIN)/python" -m opproof data --config "$(CONFIG)"
	@"$(BIN)/python" -m opproof timing training --config "$(CONFIG)"

# In any Python that has torch, numpy, scipy and pytest; nothing is installed, nothing fetched.
gpu-check: ## tests and timings on this machine's GPU, with PYTHON (python3), into gpu-check/
	@PYTHONPATH=workflow "$(PYTHON)" -m tests.gpu --output gpu-check

tensorboard: env ## curves, hyperparameters and networks of CONFIG in a browser, on PORT (6006)
	@"$(BIN)/python" -m opproof tensorboard --config "$(CONFIG)" --port "$(PORT)"

docs: test-env ## write docs/configuration.md, every key, from the schema
	@"$(BIN)/python" -m tests.docs

example: CONFIG = docs/example/config.yaml
example: test-env run ## the run that the README shows, and its pictures, in docs/example/
	@"$(BIN)/python" -m tests.browser prepare
	@"$(BIN)/python" -m tests.browser shoot results-example docs/example

clean: ## remove what runs have made; MNIST and VENV stay
	rm -rf results results-quick results-example gpu-check .snakemake

clean-checkpoints: ## remove the state of runs alone: the next run that needs it trains anew
	rm -rf results/state results-quick/state results-example/state

distclean: clean ## remove MNIST and VENV too
	rm -rf resources "$(VENV)" .mypy_cache .pytest_cache .ruff_cache tests/browser/screenshots
