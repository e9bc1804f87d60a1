# The commands that CI runs, one by one. `make help` lists them.
.DEFAULT_GOAL := help
PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))
WORKERS ?= 2

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: install
install: ## Make .venv with the locked dependencies and this package
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --editable .

.PHONY: hooks
hooks: ## Check every commit before it is made
	$(BIN)pre-commit install

.PHONY: lint
lint: ## Check style, spelling and the order of the rooms
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)codespell
	$(BIN)lint-imports --no-logo

.PHONY: types
types: ## Check types
	$(BIN)mypy

.PHONY: test
test: ## Run all tests
	$(PYTHON) -m pytest -n $(WORKERS)

.PHONY: docs
docs: ## Build the documentation site into site/, and fail on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)mkdocs build --strict --quiet

.PHONY: sbom
sbom: ## Write the SBOM (CycloneDX) and the licences of what a user installs into sbom/, and fail on a licence that is not allowed
	$(BIN)cyclonedx-py environment --pyproject pyproject.toml --output-reproducible $(PYTHON) | $(PYTHON) .ci/sbom.py sbom

.PHONY: lock
lock: ## Choose the newest versions that work together, and write requirements.lock
	uv pip compile --quiet --universal --upgrade --generate-hashes --python-version 3.11 --group dev \
		--no-emit-index-url --no-header --output-file requirements.lock pyproject.toml
