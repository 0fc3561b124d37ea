# Emotide. `make demo` shows it, `make test` checks it; each sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
APT := $(if $(filter 0,$(shell id -u)),,sudo -n )DEBIAN_FRONTEND=noninteractive apt-get

.PHONY: help demo serve test lint types format bench gpu clean system

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/core ## Replay a real two-sided call and watch its emotions (DEMO_SECONDS=20 ends it)
	@$(BIN)/python -m client.demo

serve: $(VENV)/core ## Start the server with the defaults
	$(BIN)/python server.py

test: $(VENV)/dev system lint types ## Check format, lint and types, run every test
	$(BIN)/python -m pytest

lint: $(VENV)/dev ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/dev ## Check types
	$(BIN)/mypy --strict stream client bench server.py

format: $(VENV)/dev ## Format and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev ## Print the tables of docs/performance.md, quickly
	$(BIN)/python -m bench.ingest --quick
	$(BIN)/python -m bench.capacity --quick

gpu: .venv-gpu/ready ## Check and measure emotion2vec+ on an NVIDIA GPU (6 minutes; docs/gpu.md)
	.venv-gpu/bin/python -m bench.gpu --out outputs/gpu

.venv-gpu/ready:
	@$(PYTHON) -m venv .venv-gpu
	@echo "Installing PyTorch into .venv-gpu (some minutes) ..."
	@.venv-gpu/bin/python -m pip --disable-pip-version-check install --quiet numpy pyyaml pytest '$(TORCH)'
	@touch $@

clean: ## Remove what was built
	rm -rf $(VENV) .venv-gpu build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Emotide needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python has no venv: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/core: $(VENV)/bin/python pyproject.toml
	@echo "Installing Emotide into $(VENV) (about a minute, without torch) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	@echo "Installing what the tests need into $(VENV) (torch and FunASR: some minutes) ..."
	@$(PIP) '$(TORCH)'
	@$(PIP) --editable '.[emotion2vec,dev]'
	@touch $@

# A missing part is a failure that names its remedy, never a test that is quietly skipped.
system:
	@PATH="$$PATH:/usr/sbin:/sbin"; \
	need() { command -v $$1 >/dev/null || { \
	  echo "Installing $$2 ($$3) ..."; \
	  $(APT) update -qq && $(APT) install -y -qq $$2 >/dev/null; } || { \
	  echo "The tests need $$2: apt-get install $$2"; exit 1; }; }; \
	need mosquitto mosquitto "the MQTT tests run a real broker"; \
	need chromium chromium "the page's tests run in a real browser"; \
	need node nodejs "the page's modules are tested by themselves"
