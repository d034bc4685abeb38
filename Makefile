# The one place that knows how to set up and run this project. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# uv: the one on PATH, else a private copy in .tools that pip fetches once.
UV := $(or $(shell command -v uv 2>/dev/null),.tools/uv/bin/uv)
RUN := $(UV) run --frozen --all-packages
SYNC := .venv/.synced

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.tools/uv/bin/uv:
	@command -v python3 >/dev/null || { echo "python3 (3.11 or later) is needed to fetch uv" >&2; exit 4; }
	@python3 -m pip --version >/dev/null 2>&1 || { echo "pip is needed to fetch uv: apt-get install python3-pip, or put uv on PATH" >&2; exit 4; }
	python3 -m pip install --quiet --disable-pip-version-check --target .tools/uv 'uv>=0.8'

$(SYNC): $(UV) uv.lock pyproject.toml $(wildcard */pyproject.toml)
	$(UV) sync --frozen --all-packages --quiet
	@touch $@

.PHONY: setup
setup: $(SYNC) ## Fetch uv and the locked packages.
