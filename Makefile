# Each target sets up what it needs: python3 (3.11 or newer, with venv) and make are all that has to be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := .venv-bench/.ready
PIN_READY := .venv-pin/.ready
JOBS ?= auto
PACKAGES := runtimed actors wal $(wildcard tui)
SOURCES := $(PACKAGES) tests examples bench requirements systemd docs/.site
DESTDIR ?= /
PREFIX ?= /usr/local

# What is in the current folder never shadows a package.
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test quick check format bench chaos screenshots requirements docs install-systemd clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: $(READY) ## the virtual environment with everything pinned and hashed

demo: $(READY) ## orders and a sync, kill -9 in the middle, a table each: nothing lost, nothing done twice
	@$(BIN)/python -m examples.shop.demo
	@$(BIN)/python -m examples.sync.demo

serve: $(READY) ## the daemon on the example shop, until Ctrl-C
	@$(BIN)/python -m examples.shop.serve

# The folder is a short one: a unix socket's path has 107 bytes.
test: $(READY) ## all tests, three workers to two cores (JOBS=0: one after the other), then those that need quiet
	@temp=$$(mktemp -d -t rt.XXXXXX); trap 'rm -rf "$$temp"' EXIT; \
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --basetemp="$$temp/t" -m "not alone" && \
	$(BIN)/python -m pytest --basetemp="$$temp/a" -m alone

quick: $(READY) ## the tests that take less than 0.25 s each
	$(BIN)/python -m pytest -q -m "not slow"

check: $(READY) ## format, lint, types, layers, the unit file
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python systemd/check.py

format: $(READY) ## rewrite the sources in the house's format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(READY) $(BENCH_READY) ## the performance figures, beside the neighbour's; also in bench/results/
	@$(BIN)/python -m bench

chaos: $(READY) ## the fault figures, with the larger numbers; also in bench/results/
	@$(BIN)/python -m bench.chaos

screenshots: $(READY) ## the pictures of the docs, anew: the real dashboard on a shop's day; into docs/img/
	@$(BIN)/python -m bench.pictures

docs: $(READY) ## the docs as a site, into site/; a dead link fails
	$(BIN)/mkdocs build --strict --quiet

install-systemd: $(READY) ## the daemon as a system service: make install-systemd [DESTDIR=...] [PREFIX=/usr/local] [ARGS=...]
	$(BIN)/python systemd/install.py --destdir "$(DESTDIR)" --prefix "$(PREFIX)" $(ARGS)

requirements: $(PIN_READY) ## resolve pyproject.toml anew into requirements/*.txt
	.venv-pin/bin/python requirements/pin.py

clean: ## remove what the other targets made, results apart
	rm -rf .venv .venv-bench .venv-pin .venv.lock .venv-bench.lock .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis dist build site
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments: made anew when what they are made from changes, else a second run is instant -----------------------

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) requirements/install.py $(VENV) requirements/dev.txt --project

$(BENCH_READY): requirements/bench.txt
	@$(PYTHON) requirements/install.py .venv-bench requirements/bench.txt

$(PIN_READY):
	@$(PYTHON) -m venv --clear .venv-pin
	@.venv-pin/bin/python -m pip install -qq 'pip-tools>=7.5,<8'
	@touch $@
