PYTHON ?= python3
BIN := .venv/bin
FLASK := $(BIN)/flask --app app

.PHONY: run test test-postgresql lint check bench soak clean

run: .venv/ready .env
	@$(FLASK) db upgrade
	@$(FLASK) demo
	@exec $(BIN)/gunicorn

test: .venv/ready-dev
	$(BIN)/pytest tests -n auto

# A PostgreSQL of its own is started for the run; PIXEL_TESTS_DATABASE may name another. TESTS says which tests to run.
TESTS ?= tests
test-postgresql: export PIXEL_TESTS_DATABASE ?= postgresql
test-postgresql: .venv/ready-dev
	$(BIN)/pytest $(TESTS)

lint: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check: lint test

bench: .venv/ready-dev
	$(BIN)/python -m tests.bench

soak: .venv/ready-dev
	$(BIN)/pytest tests --soak -m soak -s

.venv/ready: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
	touch $@

.venv/ready-dev: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	touch .venv/ready $@

.env:
	install -m 600 .env.example .env

clean:
	rm -rf .venv instance .env
