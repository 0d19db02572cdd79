# The verbs of truetape; `make help` lists them. Each brings .venv up to date first: a fresh machine needs only Python 3.11+,
# make and git. Names and meanings are fixed: README.md and the automation use them.

PYTHON :=
PY := .venv/bin/python
ARGS :=
INSTALL := PYTHON="$(PYTHON)" requirements/install

# `make demo SECONDS=10`: only a value from the command line counts, for some shells keep a SECONDS of their own.
ifeq ($(origin SECONDS),command line)
DEMO_SECONDS := --seconds $(SECONDS)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint imports floors types fmt soak bench bench-go bench-cryptofeed peers conformance docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv with everything for development (quick when nothing changed)
	@$(INSTALL) test

demo: ## simulated venues through the whole gateway, no network or account; SECONDS=10 ends by itself
	@$(INSTALL) runtime
	@$(PY) -m truetape demo $(DEMO_SECONDS) $(ARGS)

test: setup ## all tests but the long ones, two at a time; ARGS="-k book" is handed to pytest
	@$(PY) -m pytest -n 2 $(ARGS)

check: format lint imports floors types ## format, lint, floors, types: what must be green before a commit

format: setup
	@.venv/bin/ruff format --check

lint: setup
	@.venv/bin/ruff check

imports: setup
	@.venv/bin/lint-imports --no-cache --no-logo

floors: setup
	@$(PY) -m pytest -q tests/test_floors.py tests/test_house.py

types: setup
	@.venv/bin/mypy

fmt: setup ## format, and mend what the linter can mend
	@.venv/bin/ruff format
	@.venv/bin/ruff check --fix

soak: setup ## the long tests, at their full counts
	@TRUETAPE_SOAK=1 $(PY) -m pytest -m soak --timeout 0 $(ARGS)

bench: setup ## measure, and write bench/results/latest.json
	@$(PY) -m bench $(ARGS)

bench-go: setup ## against the Go gateway (needs go)
	@$(PY) -m bench --go $(ARGS)

bench-cryptofeed: setup ## against cryptofeed's book, in an environment of its own
	@$(PY) -m bench --cryptofeed $(ARGS)

peers: setup ## clients that we did not write, in an environment of their own
	@tests/peers/run $(ARGS)

conformance: setup ## the RFC 6455 suite against our server and both client sides (needs Debian's mirror; Python 2.7 is unpacked, not installed)
	@tests/conformance/run

docs: setup ## write the generated reference pages
	@$(PY) -m docs.generate $(ARGS)

lock: ## resolve the dependencies in pyproject.toml anew into requirements/*.lock
	@PYTHON="$(PYTHON)" requirements/lock $(ARGS)

clean: ## remove the environment, the caches and what was built; recorded tapes stay
	@rm -rf .venv .lock-venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist bench/build
	@find src tests bench docs requirements -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
