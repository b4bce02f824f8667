# The same targets for a laptop and for CI. `make setup` needs Python 3.11 or newer, git and make; the rest comes from requirements-dev.lock.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-stamp
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The runtime and the build pins agree with the development pins, so what is shipped is what was tested.
LOCK   := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
# All but the list of them, which is kustomize's own.
MANIFESTS = $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))
SCRIPTS = $(shell git ls-files '*.sh' .ci/run)

export PATH := $(CURDIR)/$(BIN):$(PATH)
# Tests start some hundred processes: they compile the code once.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test watch-torture attack audit-deps check fix proto proto-check proto-release lock bench-quick bench-watch clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make the environment from the lock file (PYTHON=python3.12 takes another Python)

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is not Python 3.11 or newer: name one, as in 'make $(MAKECMDGOALS) PYTHON=python3.12'" >&2; exit 1; }
	@echo "setting up $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## serve on 127.0.0.1:50051, with the data in ./data
	@$(BIN)/nofx-grpc serve

test: setup ## run the whole test suite, in a process for each core (ARGS="-k name" for a part of it, ARGS="-n0 -s" to see what tests print)
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

watch-torture: setup ## the promises of Watch for long (WATCH_CHANGES=10000 WATCH_SEED=n ARGS="-k replicas"), with kill -9 and cut connections
	WATCH_CHANGES=$${WATCH_CHANGES:-10000} $(BIN)/pytest -s -o log_cli=false tests/watch/test_torture.py $(ARGS)

attack: setup ## floods, and a million inputs to every rpc of a live server (ATTACK_FLOOD=4000 ATTACK_INPUTS=1000000 ATTACK_SEED=x repeats a run)
	ATTACK_FLOOD=$${ATTACK_FLOOD:-4000} $(BIN)/pytest -s -o log_cli=false tests/attack/test_floods.py $(ARGS)
	ATTACK_INPUTS=$${ATTACK_INPUTS:-1000000} $(BIN)/pytest -s -o log_cli=false tests/attack/test_fuzz.py $(ARGS)

audit-deps: setup ## known vulnerabilities of requirements.lock; fails where the data cannot be reached (ARGS="-s osv" asks another service)
	$(BIN)/python -m tools.audit_deps requirements.lock $(ARGS)

check: setup proto-check ## everything that can be said without running the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/kubernetes-validate --strict --quiet $(MANIFESTS)
	for script in $(SCRIPTS); do bash -n "$$script" || exit 1; done
	$(BIN)/python -m tools.check_file_length

fix: setup ## put right what tools can: format, lint, the README's settings table
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tools.settings_table

proto: setup ## generate nofx_grpc/v1 and buf from protos
	tools/proto.sh generate

proto-check: setup ## protos: lint, breaking changes, and generated code that is up to date
	tools/proto.sh check

proto-release: setup ## make the protos of now the baseline of `buf breaking`
	tools/proto.sh release

lock: setup ## pin again after a change in pyproject.toml (UPGRADE=--upgrade takes the newest of all)
	$(LOCK) $(UPGRADE) pyproject.toml --extra dev -o requirements-dev.lock
	$(LOCK) $(UPGRADE) pyproject.toml -c requirements-dev.lock -o requirements.lock
	$(LOCK) $(UPGRADE) --group build -c requirements-dev.lock -o requirements-build.lock

bench-quick: setup ## a table of CPU per call and calls per second
	$(BIN)/python -m benchmarks.quick

bench-watch: setup ## what watchers cost: a thousand streams, a thousand engines that come back, 100,000 traders streamed
	$(BIN)/python -m benchmarks.watch

clean: ## remove the environment, caches and build output; never the data
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
