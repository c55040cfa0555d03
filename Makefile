PYTHON ?= python3
BIN := .venv/bin
FLASK := $(BIN)/flask --app app
# Only wheels whose hash is in the lock file are installed, so no package runs code while it is installed.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all:
# Print the part of the lock file that the server needs.
RUNTIME_LOCK := sed '/^\# Development/,$$d' requirements.lock
# `make lock` resolves with this version of uv. Nothing else uses uv.
UV := uv==0.13.9

.DEFAULT_GOAL := help
.PHONY: help run test test-postgresql lint check bench soak lock sbom clean

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 17

run: .venv/ready .env ## Start the server on PORT (8000) with the demo shop. Needs Python 3.11 or newer.
	@$(FLASK) db upgrade
	@$(FLASK) demo
	@exec $(BIN)/gunicorn

test: .venv/ready-dev ## Run the test suite.
	$(BIN)/pytest tests -n auto

# The target starts its own PostgreSQL unless PIXEL_TESTS_DATABASE names one. TESTS selects the tests.
TESTS ?= tests
test-postgresql: export PIXEL_TESTS_DATABASE ?= postgresql
test-postgresql: .venv/ready-dev ## Run the test suite on PostgreSQL, or only TESTS.
	$(BIN)/pytest $(TESTS)

lint: .venv/ready-dev ## Check the format and the style of the code.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check: lint test ## Run lint and test.

bench: .venv/ready-dev ## Measure the server.
	$(BIN)/python -m tests.bench

soak: .venv/ready-dev ## Run the long tests.
	$(BIN)/pytest tests --soak -m soak -s

# Versions stay as they are where the requirements allow it. UPGRADE=--upgrade takes the newest of all,
# UPGRADE="--upgrade-package NAME" the newest of one.
lock: ## Write requirements.lock from requirements.txt and requirements-dev.txt.
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/pip install --quiet --disable-pip-version-check --only-binary :all: $(UV)
	.venv/uv/bin/python .ci/lock.py $(UPGRADE)

SBOM ?= sbom.json
sbom: .venv/ready-dev ## Write sbom.json, a CycloneDX list of the packages that the server needs.
	$(RUNTIME_LOCK) | PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml \
		--output-reproducible --output-file $(SBOM) -

# A changed lock file empties .venv first: what the lock file no longer holds must not stay installed.
.venv/ready: requirements.lock
	$(PYTHON) -m venv --clear .venv
	$(RUNTIME_LOCK) | $(INSTALL) -r /dev/stdin
	touch $@

# This adds to .venv and does not empty it, because a server may be running from it.
.venv/ready-dev: .venv/ready
	$(INSTALL) -r requirements.lock
	touch $@

.env:
	install -m 600 .env.example .env

clean: ## Remove .venv, .env and the instance folder with all its events.
	rm -rf .venv instance .env
