# Emotide. `make demo` and `make test` install their dependencies; `make help` lists all targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
WORKERS ?= 3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
APT := $(if $(filter 0,$(shell id -u)),,sudo -n )DEBIAN_FRONTEND=noninteractive apt-get

FUZZ_SECONDS ?= 60
MODULES ?=

.PHONY: help install docs demo serve test unit lint types format schemas bench gpu fuzz soak mutants peers clean system

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/core ## Install Emotide into .venv, without torch (a minute)

demo: $(VENV)/core ## Replay a real two-sided call and show its emotions (DEMO_SECONDS=20 stops after 20 s)
	@$(BIN)/emotide demo

serve: $(VENV)/core ## Start the server with the default configuration
	$(BIN)/emotide serve

test: $(VENV)/dev system lint types ## Check format, lint, import rules and types, run all tests with coverage
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term --reruns 1 -raR --durations=30

unit: $(VENV)/unit ## Run the tests without torch, a browser, a broker or other processes (a minute)
	$(BIN)/python -m pytest --unit -q -n $(WORKERS)

lint: $(VENV)/dev ## Check format, style, import rules and generated schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m stream.protocol.schemas --check

types: $(VENV)/dev ## Check types
	$(BIN)/mypy --strict emotide stream client bench training tests docs/site examples server.py

format: $(VENV)/dev ## Format, and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(VENV)/dev ## Generate the schemas of asyncapi.yaml and result.schema.json from the types
	$(BIN)/python -m stream.protocol.schemas

docs: $(VENV)/docs ## Build the documentation as a site in outputs/site (make docs SERVE=1 serves it)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(if $(SERVE),serve,build --strict)

bench: $(VENV)/dev ## Print short versions of the ingest and capacity tables of docs/performance.md
	$(BIN)/python -m bench.ingest --quick
	$(BIN)/python -m bench.capacity --quick

fuzz: $(VENV)/dev ## Fuzz all parsers of foreign input for FUZZ_SECONDS=60 each
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m tests.fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m tests.fuzz.media

mutants: $(VENV)/dev ## Change MODULES="stream/admission.py …" a little and count what their tests notice
	$(BIN)/python -m tests.mutants $(MODULES)

peers: $(VENV)/dev ## Run foreign programs with the server: telephony, WebSocket conformance, Home Assistant, Node-RED, browsers, Prometheus
	$(BIN)/python -m tests.peers

soak: $(VENV)/dev system ## Run the faults that need minutes for SOAK_MINUTES=40, and print a table
	$(BIN)/python -m tests.soak

gpu: .venv-gpu/ready ## Check and measure emotion2vec+ on an NVIDIA GPU (6 minutes; docs/gpu.md)
	.venv-gpu/bin/python -m bench.gpu --out outputs/gpu

.venv-gpu/ready:
	@$(PYTHON) -m venv .venv-gpu
	@echo "Installing PyTorch into .venv-gpu (some minutes) ..."
	@.venv-gpu/bin/python -m pip --disable-pip-version-check install --quiet numpy pyyaml pytest '$(TORCH)'
	@touch $@

clean: ## Remove virtual environments, builds and caches
	rm -rf $(VENV) .venv-gpu build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Emotide needs Python 3.11 or newer; select one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "This Python has no venv: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/core: $(VENV)/bin/python pyproject.toml
	@echo "Installing Emotide into $(VENV) (about a minute, without torch) ..."
	@$(PIP) --editable '.[history]'
	@touch $@

$(VENV)/docs: $(VENV)/core
	@$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/unit: $(VENV)/core
	@$(PIP) --editable '.[unit,history]'
	@touch $@

$(VENV)/dev: $(VENV)/core
	@echo "Installing the test dependencies into $(VENV) (torch and FunASR: some minutes) ..."
	@$(PIP) '$(TORCH)'
	@$(PIP) --editable '.[emotion2vec,dev]'
	@touch $@

# A missing program is a failure with a remedy, never a skipped test.
system:
	@PATH="$$PATH:/usr/sbin:/sbin:$$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"; \
	need() { command -v $$1 >/dev/null || { \
	  echo "Installing $$2 ($$3) ..."; \
	  $(APT) update -qq && $(APT) install -y -qq $$2 >/dev/null; } || { \
	  echo "The tests need $$2: apt-get install $$2"; exit 1; }; }; \
	need mosquitto mosquitto "the MQTT tests run a real broker"; \
	need mosquitto_sub mosquitto-clients "the tests run the commands of docs/index.md"; \
	need promtool prometheus "the tests check rules and boards"; \
	need chromium chromium "the page's tests run in a real browser"; \
	need node nodejs "the tests run the page's modules"; \
	need initdb postgresql "the tests of the history run a real database"
