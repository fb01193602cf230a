# Every verb works on a fresh clone: Python 3.11 or newer, make and a compiler are all it needs.
PYTHON ?= python3
BIN := .venv/bin
export VAEKIT_CACHE ?= $(CURDIR)/.cache

.PHONY: demo test lint types bench docs clean

.venv/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.test: .venv/.core
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dev]'
	touch $@

demo: .venv/.core  ## train on embedded digits from a fresh start, and measure, sample and reconstruct
	rm -rf .demo
	$(BIN)/vaekit train digits --epochs 40 --out .demo
	$(BIN)/vaekit evaluate .demo
	$(BIN)/vaekit sample .demo -n 64 --out .demo/new.png
	@echo "Look at .demo/report.html, .demo/samples.png, .demo/reconstructions.png, .demo/curves.png and .demo/new.png"

test: .venv/.test
	$(BIN)/python -m pytest

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test
	$(BIN)/mypy

bench: .venv/.test  ## throughput against a bare loop, pythae and Keras (25 minutes); resident memory
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/memory.py

docs: .venv/.test  ## the generated page of recipes
	$(BIN)/python docs/make_recipes.py

clean:
	rm -rf .venv .demo .bench .cache build src/*.egg-info
