PYTHON ?= python3
BIN := .venv/bin
FLASK := $(BIN)/flask --app app

.PHONY: run test lint check bench soak clean

run: .venv/ready .env
	@$(FLASK) db upgrade
	@$(FLASK) demo
	@exec $(BIN)/gunicorn

test: .venv/ready-dev
	$(BIN)/pytest tests -n auto

lint: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check: lint test

bench: .venv/ready-dev
	$(BIN)/python -m tests.bench

soak: .venv/ready-dev
	$(BIN)/pytest tests --soak -m soak -s

.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/ready-dev: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch .venv/ready $@

.env:
	cp .env.example .env

clean:
	rm -rf .venv instance .env
