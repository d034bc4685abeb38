# The one place that knows how to set up and run this project. `make help` lists the targets.
# Each target fetches what it needs: uv, the locked packages, and the servers.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# uv: the one on PATH, else a private copy in .tools that pip fetches once.
UV := $(or $(shell command -v uv 2>/dev/null),.tools/uv/bin/uv)
RUN := $(UV) run --frozen --all-packages
SYNCED := .venv/.synced
# Servers that `make up` started, if it did: the variables that name them.
UP := $(if $(wildcard .services/env),--env-file .services/env)

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(SYNCED) ## Run jobs on both workers, watch them live, kill a worker: about a minute.
	@$(RUN) python deploy/demo.py

.PHONY: test
test: $(SYNCED) ## Run all tests, on real servers that are started and stopped for it.
	$(RUN) pytest -n auto --durations=10 $(ARGS)

.PHONY: unit
unit: $(SYNCED) ## Run the tests that need no server: seconds.
	$(RUN) pytest -q tests/unit $(ARGS)

.PHONY: check
check: $(SYNCED) ## Format, lint, types, import rules and container files.
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports --no-cache
	$(RUN) check-jsonschema --builtin-schema vendor.compose-spec compose*.yaml
	$(RUN) hadolint deploy/*.Dockerfile

.PHONY: bench
bench: $(SYNCED) ## Drain jobs that do nothing, beside plain taskiq, and print the ratios.
	@$(RUN) python bench/drain.py $(ARGS)

.PHONY: chaos
chaos: $(SYNCED) ## Break servers and workers under load and count every job: half an hour or more.
	@$(RUN) kiq chaos $(ARGS)

.PHONY: up
up: $(SYNCED) ## Start RabbitMQ, MongoDB and Valkey and leave them running.
	$(RUN) kiq services up

.PHONY: down
down: $(SYNCED) ## Stop what `make up` started; the data stays.
	$(RUN) kiq services down

.PHONY: worker-general
worker-general: $(SYNCED) ## Run the general worker (on the servers of `make up`, or of the environment).
	$(RUN) $(UP) taskiq worker workers_general.main:broker $(ARGS)

.PHONY: worker-ml
worker-ml: $(SYNCED) ## Run the ML worker.
	$(RUN) $(UP) taskiq worker workers_ml.main:broker $(ARGS)

.PHONY: python
python: $(SYNCED) ## Open a Python (top-level await works) on the servers of `make up`.
	@$(RUN) $(UP) python -m asyncio

.PHONY: setup
setup: $(SYNCED) ## Fetch uv and the locked packages; all other targets do it by themselves.

.PHONY: format
format: $(SYNCED) ## Format the code and mend what the linter can fix.
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

$(SYNCED): $(UV) uv.lock pyproject.toml $(wildcard */pyproject.toml)
	@$(UV) sync --frozen --all-packages --quiet
	@touch $@

.tools/uv/bin/uv:
	@command -v python3 >/dev/null || { echo "python3, 3.11 or later, is needed" >&2; exit 4; }
	@python3 -m pip --version >/dev/null 2>&1 || \
		{ echo "pip is needed to fetch uv: apt-get install python3-pip, or put uv on PATH" >&2; exit 4; }
	@echo "fetching uv" >&2
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--target .tools/uv 'uv>=0.8' 2> >(grep -v 'is ignored: it is neither' >&2)
