# Every target sets up .venv on first use; nothing else is asked of you.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## create .venv from the lock file

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## simulate a survey, run the workflow on it, show the merged catalogue
	snakemake

test: $(READY)  ## run all the tests
	pytest -n 2 --dist worksteal

bench: $(READY)  ## time a sub-tile of survey size, and the classic route (idle machine, 11 min)
	python -m tests.benchmarks.bench --output build/bench

lint: $(READY)  ## check style, workflow and the direction of imports
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	snakemake --lint
	lint-imports

lock: pyproject.toml  ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-annotate --no-header --upgrade --quiet pyproject.toml -o requirements.lock

clean:  ## remove the demo's data and results
	rm -rf data results .snakemake
