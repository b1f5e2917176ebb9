# Every target works on a fresh clone: what it needs, it makes. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLUSTER ?= local
CRD := crds/spillway.dev_inferencepools.yaml
PYTEST := $(BIN)/python -m pytest
# Two rigs side by side where each has a control plane of its own; a shared cluster takes one.
RIGS := $(if $(filter local,$(CLUSTER)),2,0)

# Where bytecode is not written, every start of every program of ours compiles all it imports, and
# pytest rewrites every test file again: half of the quick tests' time.
unexport PYTHONDONTWRITEBYTECODE

# How often an end-to-end test that failed is tried again; each such try is named at the end. On a
# machine that others share, a deadline may pass because of them.
RERUNS ?= 1
E2E = $(PYTEST) --cluster=$(CLUSTER) -v -raR --rerun-show-tracebacks --reruns $(RERUNS)

.DEFAULT_GOAL := help
# Targets with a line of help, and the parts of check.
.PHONY: lint types layers docstrings $(shell sed -n 's/^\([a-z0-9-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "creating $(VENV) (about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

venv: $(VENV)/.ready ## the development environment

check: lint types layers docstrings audit ## everything static that CI checks
	$(BIN)/python -m spillway.api.crd --check $(CRD)
	$(BIN)/python -m spillway.api.crd --check charts/spillway/files/$(notdir $(CRD))
	$(BIN)/python -m tools.gen_reference --check
	$(BIN)/python -m tools.gen_economics --check
	$(BIN)/python -m tools.gen_reliability --check
	$(BIN)/python -m tools.gen_dashboard --check
	$(BIN)/python -m tools.gen_argocd --check
	$(BIN)/python -m tools.gen_chart_callback --check
	$(BIN)/python -m tools.gen_chart_readme --check
	$(BIN)/python -m tools.gen_manifests --check

audit: venv ## known vulnerabilities of what is locked, by the copy in requirements/
	$(BIN)/python -m tools.audit

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

layers: venv
	$(BIN)/lint-imports

docstrings: venv
	$(BIN)/interrogate -q operator

format: venv ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: venv ## everything: unit, property, contract, end-to-end (CLUSTER=local|kind|current)
	HYPOTHESIS_PROFILE=full $(PYTEST) tests --ignore=tests/e2e --ignore=tests/fuzz -q -n 2
	@$(MAKE) --no-print-directory test-fuzz
	@$(MAKE) --no-print-directory test-e2e

test-quick: venv ## unit, property and contract tests but the slow ones (under a minute)
	$(PYTEST) tests --ignore=tests/e2e --ignore=tests/fuzz -q -n 2 -m "not slow"

test-fuzz: venv ## 500 examples of each kind of hostile input (a part of `make test`)
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) tests/fuzz -q -n 2

test-nightly: venv ## 10,000 examples of each, other ones every time, and an hour of soak (two hours)
	HYPOTHESIS_PROFILE=nightly $(PYTEST) tests/fuzz -q -n 2 --timeout=7200
	SPILLWAY_SOAK_SECONDS=3600 $(PYTEST) tests/e2e/test_soak.py --cluster=$(CLUSTER) -v

test-e2e: venv ## the end-to-end tests alone
	$(if $(filter local,$(CLUSTER)),$(BIN)/python -m tests.e2e.rig.binaries)
	$(E2E) tests/e2e -n $(RIGS) --dist loadfile --no-loadscope-reorder -m "not alone" --durations=25
	$(E2E) tests/e2e -m alone --durations=5

reliability: venv ## run the tests of faults and write the table of docs/reliability.md
	SPILLWAY_FLOOD_POOLS=1000 $(PYTEST) tests/e2e/test_faults_*.py tests/e2e/test_leadership.py tests/e2e/test_data_faults.py \
		tests/e2e/test_lifecycle.py tests/e2e/test_routes.py -n $(RIGS) --dist loadfile -v \
		--cluster=$(CLUSTER) --fault-records=docs/reliability/faults.json
	$(BIN)/python -m tools.gen_reliability

demo: venv ## a control plane, Prometheus, Envoy, emulated GPUs, the operator and a spike, live
	$(BIN)/python -m tests.e2e.rig.demo --cluster=$(CLUSTER)

bench: venv ## what needs no trace: a decision, a forecast, memory, a metrics page, the engines of the simulator
	$(BIN)/python bench/bench_decide.py
	$(BIN)/python bench/bench_page.py
	$(BIN)/python bench/bench_simulator.py

bench-capacity: venv ## learned capacity against where the emulator begins to miss (about an hour)
	$(BIN)/python bench/bench_capacity.py

bench-optimum: venv ## the optimum, its gap and its time on public traces: TRACE=folder
	@test -n "$(TRACE)" || { echo "TRACE=FOLDER is needed: a folder with azure2023/, azure2024/ and servegen/"; exit 1; }
	$(BIN)/python bench/bench_optimum.py --traces $(TRACE)

bench-policy: venv ## Spillway against tuned rivals and the optimum: TRACE=folder or files, ARGS=--quick
	@test -n "$(TRACE)" || { echo "TRACE=FOLDER is needed: a folder with azure2023/, azure2024/ and servegen/, or trace files"; exit 1; }
	$(BIN)/python bench/bench_policy.py --trace $(TRACE) $(ARGS)

bench-gap: venv ## where the gap to the optimum comes from: TRACE=folder or files, ARGS="--only conv"
	@test -n "$(TRACE)" || { echo "TRACE=FOLDER is needed: a folder with azure2023/, azure2024/ and servegen/, or trace files"; exit 1; }
	$(BIN)/python bench/bench_gap.py --trace $(TRACE) $(ARGS)

bench-forecast: venv ## coverage and loss of the forecasts on public traces: TRACE=folder
	@test -n "$(TRACE)" || { echo "TRACE=FOLDER is needed: a folder with azure2023/, azure2024/ and servegen/"; exit 1; }
	$(BIN)/python bench/bench_forecast.py --traces $(TRACE)

bench-step-time: venv ## recorded steps of a real GPU beside the built-in table
	$(BIN)/python bench/bench_step_time.py

bench-edge: venv ## what the edge Envoy adds to an answer, and how far it passes its bound
	$(BIN)/python bench/bench_edge.py

bench-loop: venv ## CPU and event-loop lag of 1,000 pools without a cluster: ARGS="--pools 100"
	$(BIN)/python bench/bench_loop.py $(ARGS)

bench-scale: venv ## POOLS=1000 of PODS=10 on a real control plane, with goals (half an hour, 6 GB)
	$(BIN)/python -m tests.e2e.rig.binaries
	$(BIN)/python bench/bench_scale.py --pools $(or $(POOLS),1000) --pods $(or $(PODS),10) $(ARGS)

bench-guard: venv ## false alarms and caught loops of the guard on public traces: TRACE=folder
	@test -n "$(TRACE)" || { echo "TRACE=FOLDER is needed: a folder with azure2023/, azure2024/ and servegen/"; exit 1; }
	$(BIN)/python bench/bench_guard.py --traces $(TRACE)

crds: venv ## write the CRD from the models
	$(BIN)/python -m spillway.api.crd --write $(CRD)
	cp $(CRD) charts/spillway/files/

reference: venv ## write the reference pages of the docs from the code
	$(BIN)/python -m tools.gen_reference
	$(BIN)/python -m tools.gen_economics

manifests: venv ## write dashboard, manifests/, the chart's callback and README from their sources
	$(BIN)/python -m tools.gen_dashboard
	$(BIN)/python -m tools.gen_argocd
	$(BIN)/python -m tools.gen_chart_callback
	$(BIN)/python -m tools.gen_chart_readme
	$(BIN)/python -m tools.gen_manifests

test-lowest: ## the quick tests on the oldest dependencies that pyproject.toml allows (needs uv)
	uv venv -q --clear -p $(PYTHON) .venv-lowest
	uv pip install -q -p .venv-lowest/bin/python --resolution lowest-direct -e ".[sim]" --group dev
	.venv-lowest/bin/python -m pytest tests --ignore=tests/e2e -q -n 2

lock: ## pin dependencies anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links pyproject.toml --extra sim --group dev -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links -c requirements/dev.txt requirements/build.in -o requirements/build.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links requirements/litellm.in -o requirements/litellm.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links requirements/docs.in -o requirements/docs.txt

.venv-docs/.ready: requirements/docs.txt
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

docs: .venv-docs/.ready ## build the documentation into site/; a link that leads nowhere is an error
	.venv-docs/bin/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env --doctree-dir site/.doctrees docs site/html

clean: ## remove the environment and caches (built control-plane programs stay cached)
	rm -rf $(VENV) .venv-lowest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo-out .venv-docs site
