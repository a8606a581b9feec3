# Two commands matter: `make up` runs Sellflow, `make test` proves it. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
NAME   ?= ingest
SECONDS ?= 300
SOAK_SECONDS ?= 60
# Shopify's GraphQL schemas come with its development tools. They are read by tests and by the simulator, never shipped.
SCHEMAS := .cache/shopify-schemas
SCHEMA_PACKAGE := @shopify/dev-mcp@1.16.0
SCHEMA_PACKAGE_SHA256 := 4663c79229028e98f825a09d5f04ec6c3736331b740ce50260f9ffac10709474
# uv draws its progress for a person at a terminal and keeps still in a log.
QUIET  := $(shell test -t 2 || echo --quiet)

export UV_LINK_MODE ?= copy
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A user without a home (a service account, say) keeps the download cache beside the checkout.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export UV_CACHE_DIR ?= $(CURDIR)/.cache/uv
endif

.PHONY: help up install test fuzz soak lint types imports check format demo bench footprint lock clean
.DEFAULT_GOAL := help

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: install ## install what is missing, then run everything on this machine (Ctrl-C stops it)
	@exec $(BIN)/sellflow up

install: $(VENV)/.runtime $(SCHEMAS)/.complete ## set up .venv with everything Sellflow runs with, pinned by hash

test: $(VENV)/.dev $(SCHEMAS)/.complete ## linters, types, import rules, unit and integration tests
	@$(MAKE) --no-print-directory check
	@# Twice as many processes as the smallest machine has cores: many tests wait for a clock or a process.
	$(BIN)/pytest -n 4 --dist worksteal

fuzz: $(VENV)/.dev ## play thousands of interleavings: make fuzz SECONDS=300 SEED=1
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/.dev $(SCHEMAS)/.complete ## spend a simulated shop's points with 8 processes and a stranger
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS)

check: lint types imports ## the static checks alone

lint: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/deptry src

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## let ruff format and mend what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

demo: install ## play 200 orders with faults and a killed worker, and check every point
	$(BIN)/sellflow demo

bench: $(VENV)/.dev ## run one benchmark: make bench NAME=ingest
	$(BIN)/python -m benchmarks $(NAME)

lock: $(VENV)/.tools ## resolve the pinned requirements anew from pyproject.toml
	$(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group tools -o requirements/tools.txt
	$(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements/runtime.txt
	$(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements/runtime.txt pyproject.toml --group dev -o requirements/dev.txt

clean: ## remove what was installed and cached; the data in .sellflow stays
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Each stamp stands for one layer of .venv and is older than what it was made from only when that changed.
$(VENV)/.tools: requirements/tools.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Sellflow needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module failed; on Debian or Ubuntu install it with: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/tools.txt
	@touch $@

$(VENV)/.runtime: $(VENV)/.tools requirements/runtime.txt pyproject.toml
	@echo "Installing what Sellflow runs with"
	@$(UV) pip install $(QUIET) --python $(BIN)/python --require-hashes -r requirements/runtime.txt
	@$(UV) pip install $(QUIET) --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "Installing what its tests need"
	@$(UV) pip install $(QUIET) --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

# Without npm everything but the simulated Admin and Customer Account APIs works: that is no reason to stop.
$(SCHEMAS)/.complete: Makefile
	@mkdir -p $(SCHEMAS)
	@if ! command -v npm >/dev/null; then \
	  echo "npm is missing, so Shopify's schemas are not fetched: the simulator answers no GraphQL until Node.js is installed and 'make install' is run again"; \
	else \
	  echo "Fetching Shopify's GraphQL schemas" && cd $(SCHEMAS) && \
	  package=$$(npm pack --silent $(SCHEMA_PACKAGE)) && \
	  echo "$(SCHEMA_PACKAGE_SHA256)  $$package" | sha256sum --check --quiet && \
	  tar --extract --gzip --strip-components=3 --file $$package \
	    package/dist/data/admin_2026-10.json.gz package/dist/data/customer_2026-10.json.gz && \
	  rm $$package && touch .complete; \
	fi
