# One line a recipe and no logic: what is done is in `switchyard`, in scripts/bootstrap.py and in the tests.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
BIN := .venv/bin
SWITCHYARD := $(BIN)/switchyard

##@ Start here
help: ## List the targets
	@awk 'BEGIN {FS = ":.*##"} /^[a-zA-Z0-9_-]+:.*?##/ {printf "  %-12s%s\n", $$1, $$2} /^##@/ {printf "\n%s\n", substr($$0, 5)}' $(firstword $(MAKEFILE_LIST))
setup: ## Make .venv from the locked requirements (PYTHON=python3.12 chooses the Python)
	@$(PYTHON) scripts/bootstrap.py run
env: setup ## Write .env with fresh secrets and free ports; an existing one stays
	@$(SWITCHYARD) env

##@ The stack
up: setup ## Start everything: TARGET=embedded|compose SOURCE=bot=FILE ARGS=--new-ports
	@$(SWITCHYARD) up $(if $(TARGET),--target $(TARGET)) $(if $(SOURCE),--source '$(SOURCE)') $(ARGS)
down: setup ## Stop everything; the data stays
	@$(SWITCHYARD) down
status: setup ## Show what runs, where, and which database is behind it
	@$(SWITCHYARD) status $(ARGS)
logs: setup ## Follow the logs: SERVICE=postgres|trading-bot|dashboard
	@$(SWITCHYARD) logs -f $(SERVICE)
restart: setup ## Restart one service: SERVICE=trading-bot
	@$(SWITCHYARD) restart $(SERVICE)
psql: setup ## Open a SQL prompt as the administrator: ARGS="-c 'SELECT 1'"
	@$(SWITCHYARD) psql $(ARGS)

##@ Data
copy: setup ## Copy a SQLite file into the running stack: SOURCE=bot=FILE
	@$(SWITCHYARD) copy --source '$(SOURCE)' $(ARGS)

##@ Tests
setup-dev: ## Make .venv with the tools of tests and checks too
	@$(PYTHON) scripts/bootstrap.py dev
test: setup-dev ## Run the tests: TARGET=embedded|compose T=path ARGS="-k word"
	$(BIN)/python -m pytest $(or $(T),infra-tests $(if $(filter compose,$(TARGET)),,services)) $(if $(filter services/%,$(T)),,--target=$(or $(TARGET),embedded)) $(ARGS)
faults: setup-dev ## Break things on purpose: TIER=quick|full|soak SEED=1 MINUTES=60 TARGET=embedded|compose ARGS=--mutants
	$(BIN)/python -m pytest $(or $(T),infra-tests/faults) --tier=$(or $(TIER),full) --target=$(or $(TARGET),embedded) $(if $(SEED),--faults-seed=$(SEED)) $(if $(MINUTES),--minutes=$(MINUTES)) $(ARGS)
look: setup-dev ## Log in and look at each page in a headless browser: TARGET=embedded|compose
	$(BIN)/python -m pytest infra-tests/browser -o python_files="look_*.py" --target=$(or $(TARGET),embedded) $(ARGS)
screenshots: setup-dev ## Write docs/pictures anew from a stack of their own, with the real history where there is one
	$(BIN)/python infra-tests/browser/screenshots.py
check: setup-dev ## Check style, types, import rules, containers, workflows and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports
	$(BIN)/compose-lint check --fail-on low --strict-config --skip-suppressed docker-compose.yml
	$(BIN)/hadolint services/*/Dockerfile infra-tests/offline-images/*/Dockerfile
	$(BIN)/shellcheck .ci/run requirements/lock.sh infra-tests/offline-images/postgres/*.sh
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/python -m pytest -q infra-tests/structure
bench: setup-dev ## Measure what benchmarks/README.md reports: TARGET=embedded|compose
	$(BIN)/python benchmarks $(if $(TARGET),--target $(TARGET))

##@ Maintenance
docs: setup-dev ## Write docs/configuration.md anew from the settings
	$(BIN)/python -m tradedb.config.document docs/configuration.md
lock: setup-dev ## Write the locked requirements anew from the pyproject files
	requirements/lock.sh

##@ Danger zone
reset: setup ## Delete the database, after asking
	@$(SWITCHYARD) reset $(ARGS)

.PHONY: help setup env up down status logs restart psql copy setup-dev test faults look screenshots check bench docs lock reset
