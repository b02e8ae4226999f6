# `make run` and `make test` are all a newcomer needs: Python 3.11+ with pip, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := $(wildcard server tests tools bench)

# Tests run in this many processes (0: in one, which a debugger needs); PYTEST_ARGS adds options or picks tests.
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
PYTEST := $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help venv lock gen gen-check format lint types floors protos check test-unit test-e2e test run bench bench-micro \
	bench-soak bench-copies bench-profile bench-frames bench-page bench-setup wheel clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

venv:  ## make or refresh .venv from the hash-pinned lock
	@$(PYTHON) tools/venv.py --venv $(VENV) --lock requirements/dev.lock

# dev.lock is everything, server.lock what the image runs, build.lock what builds the wheel; the latter two follow the first.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
lock: venv  ## pin what pyproject.toml asks for (LOCK_ARGS=--upgrade: the newest)
	$(LOCK) $(LOCK_ARGS) pyproject.toml --extra run --group dev -o requirements/dev.lock
	$(LOCK) pyproject.toml -c requirements/dev.lock -o requirements/server.lock
	$(LOCK) --group build -c requirements/dev.lock -o requirements/build.lock
	@$(PYTHON) tools/venv.py --venv $(VENV) --lock requirements/dev.lock

gen: venv  ## write gen/ from protos/
	@$(BIN)/python tools/gen.py

gen-check: venv  ## fail where gen/ is not what protos/ says
	@$(BIN)/python tools/gen.py --check

format: venv  ## rewrite code and protos in their one format
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .
	@$(BIN)/python tools/protos.py --format

lint: venv  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: venv  ## mypy, strict
	@$(BIN)/mypy $(CODE)

floors: venv  ## import-linter: who may import whom
	@$(BIN)/lint-imports --no-logo

protos: venv  ## buf: lint, format, no breaking change
	@$(BIN)/python tools/protos.py

check: lint types floors protos gen-check  ## all of these checks

test-unit: venv  ## the tests that need no Envoy
	$(PYTEST) -m "not e2e" $(PYTEST_ARGS)

test-e2e: venv  ## through the real Envoy, server and provider
	$(PYTEST) -m e2e $(PYTEST_ARGS)

test: venv  ## the whole suite
	$(PYTEST) $(PYTEST_ARGS)

run: venv  ## start everything: server, Envoy, demo provider
	@exec $(BIN)/python -m server dev

# BENCH_ARGS picks: --peers dragoman,envoy --cases unary-32,burst-32 --rounds 1
bench: venv  ## measure the gateway beside the peers that are installed
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-micro: venv  ## what each stage of a call costs
	@PYTHONPATH=.:gen/python $(or $(wildcard bench/.venvs/dragoman/bin/python),$(BIN)/python) -m bench.micro

bench-soak: venv  ## 200,000 calls of every kind and end: does anything grow?
	@$(BIN)/python -m bench.soak $(BENCH_ARGS)

bench-copies: venv  ## what a prompt of 15 MB costs in memory
	@$(BIN)/python -m bench.copies

bench-profile: venv  ## whose code the server runs under load (py-spy)
	@$(BIN)/python -m bench.profile

bench-frames: venv  ## how much Python a call runs through
	@$(BIN)/python -m bench.frames

bench-page: venv  ## write what these measured into docs/performance.md, .json and .svg
	@$(BIN)/python -m bench.page $(BENCH_ARGS)

bench-setup: venv  ## install peers, tools, and our server on an optimised Python, under bench/.venvs
	@$(BIN)/python -m bench.setup

# The Dockerfile builds it by the same command.
wheel: venv  ## build dist/*.whl
	$(BIN)/python -m hatchling build -t wheel -d dist

clean:  ## remove what the other targets made, data under .dragoman/ excepted
	rm -rf $(VENV) build dist tools/buf/node_modules .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
