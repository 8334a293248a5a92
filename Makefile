# `make demo` and `make test` set up what they need by themselves.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# More than there are cores: a third of the tests waits for real processes.
WORKERS ?= 5
DAILY := not full and not conformance and not live
# Neither the user's home nor anybody's credentials reach a test or the demo.
CLEAN_ENV = env -i PATH="$(PATH)" LANG=C.UTF-8 TERM="$${TERM:-dumb}" CI="$${CI:-}" HOME="$$home"
IN_EMPTY_HOME = home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && $(CLEAN_ENV)
# Temporary files of its own, too: a pytest that starts closes the common folder to other users, and the pods of a
# pytest that runs beside it are such users. The name is short for the sake of sockets' addresses.
PYTEST = tests=$$(mktemp -d /tmp/pytest-XXXX) && home=$$tests/home && mkdir "$$home" && trap 'rm -rf "$$tests"' EXIT && \
	$(CLEAN_ENV) PYTEST_DEBUG_TEMPROOT="$$tests" $(BIN)/python -m pytest
# In a new checkout pytest rewrites the assertions of every test when it is first imported: once, and not in each worker.
COMPILED = [ -d tests/unit/__pycache__ ] || { for part in "tests/unit tests/contract" "tests/integration tests/action tests/e2e"; do \
	( $(PYTEST) -q --collect-only $$part >/dev/null ) & done; wait; }
SCRIPTS = $(shell git ls-files -co --exclude-standard | grep -E '\.sh$$') .ci/run

.DEFAULT_GOAL := help
.PHONY: help demo test test-full flaky lint format setup system bench conformance live lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup  ## Set up, then run the main job on the embedded simulators (PROVIDER=celium: of that market)
	@$(IN_EMPTY_HOME) $(BIN)/runner-provisioner demo $(addprefix --provider ,$(PROVIDER)) $(ARGS)

test: setup  ## Set up, then run the tests
	@$(COMPILED)
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "$(DAILY)" --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report --skip-covered --fail-under=95 | tail -n 40
	@$(BIN)/coverage report --include='runner_provisioner/domain/*,runner_provisioner/services/*' --fail-under=100 | tail -n 5

test-full: setup  ## Run every member of every family of tests
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "not conformance and not live" $(ARGS)

flaky: setup  ## Run the end-to-end tests (or ARGS) twenty times
	@for round in $$(seq 20); do echo "round $$round"; \
		( $(PYTEST) -q -n $(WORKERS) --dist worksteal -m "not conformance and not live" $(or $(ARGS),tests/e2e) ) || exit 1; \
	done

lint: setup  ## Check style, types, layers, shell scripts, workflows and containers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/shellcheck --external-sources $(SCRIPTS)
	$(BIN)/zizmor --offline --no-progress .
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/python tools/pin_action.py --check

format: setup  ## Write the code as the formatter wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## Measure, as ratios
	@$(IN_EMPTY_HOME) $(BIN)/python -m benchmarks $(ARGS)

conformance: setup  ## Run clients that others wrote against the simulators (installs them apart)
	@$(PYTEST) -v --no-header -m conformance tests/conformance $(ARGS)

live: setup  ## Reach the real services with the credentials in the environment; rents the smallest pod
	$(BIN)/python -m pytest -m live -p no:cacheprovider $(ARGS)

setup: $(READY)

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: no venv module: on Debian, apt-get install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

system:  ## Install the Debian packages that some tests use, when root on Debian
	@missing=; \
	[ -x /usr/sbin/sshd ] || missing="$$missing openssh-server"; \
	command -v capsh >/dev/null || missing="$$missing libcap2-bin"; \
	command -v nix >/dev/null || missing="$$missing nix-bin"; \
	command -v systemd-analyze >/dev/null || missing="$$missing systemd"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="$$missing postgresql"; \
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && \
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	fi

lock:  ## Renew the lock files: pins and hashes, no addresses
	uv pip compile --upgrade --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --upgrade --universal --generate-hashes --no-header --python-version 3.11 --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	uv pip compile --upgrade --universal --generate-hashes --no-header --python-version 3.11 --extra controller -c requirements-dev.lock pyproject.toml -o requirements-controller.lock
	echo 'hatchling>=1.26' | uv pip compile --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements-dev.lock - -o requirements-build.lock
	sed -n '/^uv==/,/^ *#/p' requirements-dev.lock | grep -v '#' > action/requirements-uv.lock

clean:  ## Remove what was made here
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
