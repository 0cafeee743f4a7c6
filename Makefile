# The menu. `make help` lists the targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MVTEC ?=
GAUSSAD := $(BIN)/gaussad
TABLES := 1 2 3 4 7
# Subset runs: make table3 MVTEC=... CATEGORIES=bottle,screw
SUBSET := $(if $(CATEGORIES),--categories $(CATEGORIES))

.PHONY: help demo test parity lint format bench smoke reproduce comparators clean $(TABLES:%=table%) table5 table8

help: ## List the targets
	@grep -hE '^[a-z%]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%]+):[^#]*## */\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  make table1, 2, 3, 4, 5, 7 or 8 MVTEC=DIR   one of the paper's tables"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "gaussad needs Python 3.11 to 3.13: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv module: apt install python3-venv"; exit 1; }

# One stamp per set of extras: the demo does not wait for the developers' tools.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@

demo: $(VENV)/.demo ## Install, and run the main job on embedded images and weights
	$(GAUSSAD) demo

# The implementations that the parity tests compare with
$(VENV)/.originals: scripts/parity.py | $(VENV)/.dev
	$(BIN)/python scripts/parity.py --install
	@touch $@

test: $(VENV)/.dev $(VENV)/.originals ## Run the tests
	$(BIN)/python -m pytest

parity: $(VENV)/.dev $(VENV)/.originals ## Compare every level of every backbone with the original implementations
	$(BIN)/python scripts/parity.py

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Put the code into the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure core and comparators against scikit-learn, and extraction against a plain loop: MVTEC=DIR
	$(BIN)/python scripts/bench_core.py
	$(BIN)/python scripts/bench_comparators.py
	@test -n "$(MVTEC)" || { echo "for extraction, say where MVTec AD is: make $@ MVTEC=/path/to/mvtec"; exit 2; }
	$(BIN)/python scripts/bench_extract.py --data $(MVTEC)

smoke: ## Install into a clean virtual environment as a user would, and run the main job there
	scripts/smoke.sh $(PYTHON)

$(TABLES:%=table%): table%: $(VENV)/.demo
	@test -n "$(MVTEC)" || { echo "say where MVTec AD is: make $@ MVTEC=/path/to/mvtec"; exit 2; }
	$(GAUSSAD) run --config configs/table$*.yaml --data $(MVTEC) $(SUBSET)

# Everything that Tables V and VIII compare; what is done is not done again.
comparators: $(VENV)/.demo
	@test -n "$(MVTEC)" || { echo "say where MVTec AD is: make table5 MVTEC=/path/to/mvtec"; exit 2; }
	$(GAUSSAD) extract --data $(MVTEC) --backbone efficientnet-b0 --backbone efficientnet-b4 --epochs 100 $(SUBSET)
	for backbone in efficientnet-b0 efficientnet-b4; do \
		$(GAUSSAD) evaluate --backbone $$backbone --epochs 100 $(SUBSET) \
		&& $(GAUSSAD) evaluate --backbone $$backbone --epochs 100 --score ocsvm $(SUBSET) || exit; done
	$(GAUSSAD) extract --data $(MVTEC) --backbone wide-resnet50-2 $(SUBSET)
	$(GAUSSAD) evaluate --backbone wide-resnet50-2 --levels 5 --score knn $(SUBSET)
	for backbone in resnet-18 resnet-34 efficientnet-b0 efficientnet-b4; do \
		$(GAUSSAD) train classifier --data $(MVTEC) --backbone $$backbone $(SUBSET) || exit; done
	$(GAUSSAD) train autoencoder --data $(MVTEC) $(SUBSET)

table5 table8: table%: comparators
	$(GAUSSAD) tables --table $*

reproduce: $(TABLES:%=table%) table5 table8 ## Tables I to V, VII and VIII from MVTec AD: make reproduce MVTEC=DIR

clean: ## Remove the virtual environment and what tools left; cache and results stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
