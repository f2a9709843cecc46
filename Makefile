# The project's commands. Each one prepares what it needs; `make` alone lists them.
# Paths here are relative on purpose: the folder's own path may contain spaces.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test search dev lint types bench-limiter bench-engine

# the root is Dagster's home unless you have one; provider keys never reach the demo or the tests
HERE := export DAGSTER_HOME="$${DAGSTER_HOME:-$$PWD}";
KEYLESS := scripts/without_keys

help:  ## list the commands
	@sed -nE 's/^([a-z-]+):.*## /make \1\t/p' Makefile | expand -t 20

setup:  ## prepare the environment in .venv/ (the others do it by themselves)
	@scripts/setup

demo: setup  ## run a real table through the simulator, at the speed of its limit
	@$(HERE) $(KEYLESS) .venv/bin/batch-llm demo
	@$(HERE) $(KEYLESS) .venv/bin/python -m assets.mirror

# three workers for two cores, because many tests wait; in the folders' order, so that no long file begins last
test: setup  ## run every test
	@scripts/debian_packages chromium
	@$(KEYLESS) .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

search: setup  ## let the property tests look for counterexamples, twenty times as long
	@SEARCH_FACTOR=$${SEARCH_FACTOR:-20} $(KEYLESS) .venv/bin/python -m pytest -n 2 --dist load --timeout 3600 \
		$$(grep -rlE --include='*.py' '@given|RuleBasedStateMachine' tests)

dev: setup  ## start everything on this machine and print the address of the Dagster UI
	@$(HERE) exec .venv/bin/batch-llm dev

lint: setup  ## check style, format, the import contract and the rules of the house
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --no-cache
	@$(KEYLESS) .venv/bin/python -m pytest -q tests/test_architecture.py

types: setup  ## check the types of the library, strictly
	@.venv/bin/mypy

bench-limiter: setup  ## measure the shared rate limiter (an hour; benchmarks/README.md)
	@$(KEYLESS) .venv/bin/python -m benchmarks.limiter

bench-engine: setup  ## measure the engine through the command line (an hour and a half; benchmarks/README.md)
	@$(KEYLESS) .venv/bin/python -m benchmarks.engine
