# `make` on a fresh machine needs Python ≥ 3.11 with pip, and nothing else. Everything it makes is in .venv/, .airflow/
# and .demo/; what it starts listens on 127.0.0.1 only.

# The version that is tested most comes first; override with `make PYTHON=python3.12 …`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed
UV = $(BIN)/uv
CODE := include plugins dags local benchmarks

# make up: SCALE=small|medium|large is the size of the sample shop.
API_PORT ?= 8080
SANDBOX_PORT ?= 8099
SCALE ?= medium
STATE_DIR ?= .demo
# make test: as many processes as there are cores (0: none of their own); ARGS go to pytest, e.g. "tests/include -k orders".
JOBS ?= auto
ARGS ?=

# For commands typed by hand (`make shell`, .venv/bin/airflow …); `make demo` and `make up` set their own.
export PYTHONPATH := $(CURDIR)
export AIRFLOW_HOME := $(CURDIR)/.airflow
export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)/dags
export AIRFLOW__CORE__PLUGINS_FOLDER := $(CURDIR)/plugins
export AIRFLOW__CORE__LOAD_EXAMPLES := False
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED := False

.DEFAULT_GOAL := help
.PHONY: help install demo test up bench lint lock clean shell

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

install: $(INSTALLED) ## Make .venv from the lock (a few seconds; at once when nothing changed)

$(INSTALLED): requirements-dev.lock pyproject.toml local/install.py
	@if [ -z "$(PYTHON)" ]; then echo "No Python >= 3.11 found on PATH; install one, or: make PYTHON=/path/to/python3" >&2; exit 1; fi
	@echo "Installing into .venv …"
	@$(PYTHON) -m local.install
	@touch $@

demo: install ## Move the sample shop into the sandbox Mailchimp through real DAG runs, and show what happened
	@$(BIN)/python -m local.demo

up: install ## Airflow with its UI, and the sandbox, until Ctrl-C (SCALE, API_PORT, SANDBOX_PORT)
	@$(BIN)/python -m local.up --state-dir $(STATE_DIR) --scale $(SCALE) --api-port $(API_PORT) --sandbox-port $(SANDBOX_PORT)

test: install ## All tests (ARGS="…" goes to pytest)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

bench: install ## Measure orders → batch bodies
	@$(BIN)/python -m benchmarks.orders

lint: install ## Style, types, dependencies, compose file
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(wildcard $(CODE))
	@$(UV) pip check --python $(BIN)/python
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml

lock: install ## Pin the complete dependencies anew after a change of requirements*.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 requirements.txt -o requirements.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 -c requirements.lock requirements-dev.txt -o requirements-dev.lock

shell: install ## A shell in which airflow, python and pytest are the project's
	@PATH="$(CURDIR)/$(BIN):$$PATH" $${SHELL:-sh}

clean: ## Delete everything that make made
	rm -rf .venv .airflow .demo build dist plugins/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find dags include plugins tests local -name __pycache__ -type d -prune -exec rm -rf {} +
