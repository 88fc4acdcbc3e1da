# make help lists the targets.

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
STAMP := .venv/.installed

# No test and no demo needs a hub or reports its use.
export HF_HUB_OFFLINE ?= 1
export VLLM_NO_USAGE_STATS ?= 1
# Sets of texts are walked through in the same order each time.
export PYTHONHASHSEED ?= 0

FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help install demo test fuzz lint format lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' \
	  | while IFS="$$(printf '\t')" read -r name text; do printf '  %-9s %s\n' "$$name" "$$text"; done

install: $(STAMP) ## create .venv with the CPU build of vLLM (a few minutes, once)

$(STAMP): requirements/cpu.lock requirements/install.py pyproject.toml
	@$(PYTHON) requirements/install.py
	@touch $@

demo: install ## an agent that calls tools while it writes, and a tool call as a pause
	@.venv/bin/caesura demo

test: install ## run the tests
	@$(VENV_PYTHON) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

fuzz: install ## draw other random cases until FUZZ_SECONDS=600 are over (FUZZ_SEED=1 FUZZ_TESTS=tests/cml)
	@$(VENV_PYTHON) tests/fuzz/run.py --seconds $(FUZZ_SECONDS) \
	  $(if $(FUZZ_SEED),--seed $(FUZZ_SEED)) $(FUZZ_TESTS)

lint: install ## check format, style and types
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m mypy

format: install ## rewrite the code in the house format
	@$(VENV_PYTHON) -m ruff format .
	@$(VENV_PYTHON) -m ruff check --fix .

lock: install ## resolve requirements/cpu.in again (UPGRADE=1: to the newest versions)
	@$(VENV_PYTHON) requirements/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove .venv, caches and out/
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist out
	find src tests requirements -name __pycache__ -type d -prune -exec rm -rf {} +
