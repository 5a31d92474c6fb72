# Every target sets up .venv on first use; nothing else is asked of you.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := aws bench correlations dev dvc iceberg kubernetes query s3 slurm watch  # cuda: several GB, see profiles/image
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE  # containers set it; every job would compile shine anew

.DEFAULT_GOAL := help
.PHONY: help setup demo test validate validate-full validate-more validate-peers bench bench-jobs lint lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## create .venv from the lock file

# by uv, which downloads, unpacks and compiles on all cores, where pip takes one thing after another,
# with the machine's certificates, as pip does; compiled here, as jobs may not be able to keep what
# they compile
export UV_SYSTEM_CERTS := 1
UV_INSTALL = uv pip install --quiet --python $(BIN)/python

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock >$(VENV)/uv.lock
	$(BIN)/pip install --quiet --require-hashes -r $(VENV)/uv.lock
	$(UV_INSTALL) --require-hashes --compile-bytecode -r requirements.lock
	$(UV_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## simulate a survey, run the workflow on it, show the merged catalogue
	snakemake

# three workers even on two cores: the workflow's tests wait for clusters, servers and one another
test: $(READY)  ## run all the tests
	pytest -n 3 --dist worksteal

VALIDATE = snakemake --snakefile workflow/validation.smk --config

validate: $(READY)  ## measure the shear's bias on GalSim images, in short (4 min)
	$(VALIDATE) campaign=config/validation_smoke.yaml

validate-full: $(READY)  ## ... in full (about 2 hours; goes on where it was stopped)
	$(VALIDATE) campaign=config/validation.yaml

validate-more: $(READY)  ## ... what other beliefs about galaxies do, what the bias of full scenes is made of
	$(VALIDATE) campaign=config/validation_more.yaml

PEERS := workflow/constellation/validation/peers/requirements.lock

# pip builds LensMC from its source, which needs a C++ compiler
validate-peers: $(READY)  ## ... with AnaCal and LensMC on the same images (installs them)
	$(BIN)/pip install --quiet --require-hashes -r $(PEERS)
	$(VALIDATE) campaign=config/validation.yaml

bench: $(READY)  ## time a sub-tile of survey size, and the classic route (idle machine, 13 to 22 min)
	python -m tests.benchmarks.bench --output build/bench

bench-jobs: $(READY)  ## time what sub-tiles cost beyond their inference (idle machine)
	python -m tests.benchmarks.throughput --small
	python -m tests.benchmarks.throughput

lint: $(READY)  ## check style, workflow, imports and the Dockerfile
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	snakemake --lint
	lint-imports
	hadolint profiles/image/Dockerfile

lock: $(READY)  ## pin the newest versions that pyproject.toml allows
	uv pip compile --universal --python-version 3.11 $(addprefix --extra=,$(EXTRAS)) \
		--generate-hashes --no-annotate --no-header --upgrade --quiet pyproject.toml \
		-o requirements.lock
	uv pip compile --python-platform x86_64-unknown-linux-gnu --python-version 3.11 --extra=s3 \
		--extra=cuda --constraint requirements.lock --generate-hashes --no-annotate --no-header \
		--upgrade --quiet pyproject.toml -o profiles/image/requirements.lock
	uv pip compile --universal --python-version 3.11 --group=peers --constraint requirements.lock \
		--generate-hashes --no-annotate --no-header --upgrade --quiet -o $(PEERS)

clean:  ## remove the demo's data and results
	rm -rf data results .snakemake
