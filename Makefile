# The menu. `make help` lists the targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MVTEC ?=
GAUSSAD := $(BIN)/gaussad
TABLES := 1 2 3 4 5 7 8
# Subset runs: make reproduce MVTEC=... CATEGORIES=bottle,screw BACKBONES=efficientnet-b0 EPOCHS=20
SUBSET := $(if $(CATEGORIES),--categories $(CATEGORIES)) $(if $(BACKBONES),--backbone $(BACKBONES)) $(if $(EPOCHS),--epochs $(EPOCHS))

.PHONY: help demo test test-commands test-rest test-robustness robustness parity lint format bench constraints audit package smoke reproduce plan clean $(TABLES:%=table%)

help: ## List the targets
	@grep -hE '^[a-z%]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%]+):[^#]*## */\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  make table1, 2, 3, 4, 5, 7 or 8 MVTEC=DIR   one of the paper's tables"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
		|| { echo "gaussad needs Python 3.11 to 3.14: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv module: apt install python3-venv"; exit 1; }

# One stamp per set of extras: the demo does not wait for the developers' tools.
$(VENV)/.demo $(VENV)/.lite $(VENV)/.dev: $(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@

demo: $(VENV)/.demo ## Install gaussad, and run the main job on embedded images and weights
	$(GAUSSAD) demo

# The parity tests compare with these implementations.
$(VENV)/.originals: scripts/parity.py | $(VENV)/.dev
	$(BIN)/python scripts/parity.py --install
	@touch $@

# In two processes at once: most tests use one core.
test: $(VENV)/.dev $(VENV)/.originals ## Run the tests
	@$(MAKE) -j2 test-commands test-rest test-robustness

test-commands:
	$(BIN)/python -m pytest tests/cli tests/backbones

test-rest:
	$(BIN)/python -m pytest --ignore=tests/cli --ignore=tests/backbones

# These tests fork their process, which must have no other threads.
ROBUSTNESS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -m robustness tests/robustness

test-robustness:
	COUNT=0 $(ROBUSTNESS)

robustness: COUNT := 20
robustness: $(VENV)/.dev ## Try every command under faults and on broken files, many times: make robustness COUNT=20
	COUNT=$(COUNT) $(ROBUSTNESS) --durations=3 -o tmp_path_retention_policy=failed

parity: $(VENV)/.dev $(VENV)/.originals ## Compare every level of every backbone with the original implementations
	$(BIN)/python scripts/parity.py

lint: $(VENV)/.dev ## Check style and types, and that docs/cli.md agrees with the help
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/cli_reference.py --check

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/.dev ## Write docs/cli.md from the help of the commands
	$(BIN)/python scripts/cli_reference.py

bench: $(VENV)/.dev ## Time core and comparators against scikit-learn, and extraction against a plain loop: make bench MVTEC=DIR
	$(BIN)/python scripts/bench_core.py
	$(BIN)/python scripts/bench_comparators.py
	@test -n "$(MVTEC)" || { echo "the extraction benchmark needs the folder of MVTec AD: make $@ MVTEC=/path/to/mvtec"; exit 2; }
	$(BIN)/python scripts/bench_extract.py --data $(MVTEC)

constraints: $(VENV)/.dev ## Write the installed versions to constraints.txt
	@$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools | tr A-Z_ a-z- > constraints.txt

audit: $(VENV)/.dev ## Look for known vulnerabilities in the versions of constraints.txt
	@$(BIN)/python -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

package: ## Build sdist and wheel into dist/, and check them
	scripts/package.sh dist $(PYTHON)

smoke: ## Build the wheel, install it into a clean virtual environment as a user would, and run the main job there
	scripts/smoke.sh $(PYTHON)

# One run makes all tables: work that they share is done once, and finished work is not done again.
$(TABLES:%=table%) reproduce plan: $(VENV)/.lite
	@test -n "$(MVTEC)" || { echo "the folder of MVTec AD is needed: make $@ MVTEC=/path/to/mvtec"; exit 2; }
	$(GAUSSAD) run $(CONFIGS:%=--config %) --data $(MVTEC) $(SUBSET) $(if $(filter plan,$@),--dry-run)

$(TABLES:%=table%): CONFIGS = $@
reproduce plan: CONFIGS = $(TABLES:%=table%)
reproduce: ## Make Tables I to V, VII and VIII from MVTec AD: make reproduce MVTEC=DIR [CATEGORIES=] [BACKBONES=] [EPOCHS=]
plan: ## Show what reproduce would do, and the time and disk space that it needs

clean: ## Remove the virtual environment and the tools' files; cache and results stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
