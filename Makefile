# Two commands on a fresh machine: `make fig3` and `make test`. Each sets up .venv first if needed.
#
# `make help` lists the targets and the settings.

CORES ?= all
PYTEST_ARGS ?=
WORKERS ?= 2
OPTIONS ?=
SNAKEMAKE = .venv/bin/snakemake --cores $(CORES)$(if $(OPTIONS), $(OPTIONS))
# A file's tests share what they made, so they stay in one process; tests/conftest.py says which file comes first.
PYTEST_PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PYTEST_COVERAGE = $(if $(COVERAGE),--cov --cov-report=term:skip-covered)
SNAKEMAKE_CONFIG = $(if $(STUDY),--config study=$(STUDY))
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup fig3 figures all audit test fuzz faults lint types bench lock clean-results

help: ## List the targets and the settings
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Settings, before or after the target:"
	@echo "  STUDY=smoke                  another study, config/<study>.yaml (default: demo)"
	@echo "  CORES=1                      as many cores (default: all)"
	@echo "  OPTIONS='-n --keep-going'    options of Snakemake, for figures and everything made with them"
	@echo "  PYTHON=/path/to/python3.12   another Python for .venv"
	@echo "  PYTEST_ARGS='-k nmi'         options of pytest, for make test"
	@echo "  WORKERS=0                    as many test processes, 0: one that a debugger can stop (default: 2)"
	@echo "  COVERAGE=1                   also the lines that the tests reach, for make test"
	@echo "  MINUTES=10                   how long, for make fuzz"
	@echo "  UPGRADE=1                    newest versions, for make lock"

setup: ## Make .venv from the lock files, or renew it; part of every target below
	@sh scripts/setup.sh

fig3: setup ## Figure 3 of the paper: figures/fig3.pdf
	$(SNAKEMAKE) figures/fig3.pdf $(SNAKEMAKE_CONFIG)

figures: setup ## Every figure
	$(SNAKEMAKE) figures $(SNAKEMAKE_CONFIG)

all: setup ## Everything the study holds
	$(SNAKEMAKE) all $(SNAKEMAKE_CONFIG)

audit: setup ## Every claim with its verdict: results/<study>/report.html, and workflow.zip, how all of it was made
	$(SNAKEMAKE) audit $(SNAKEMAKE_CONFIG)
	$(SNAKEMAKE) audit $(SNAKEMAKE_CONFIG) --report results/$(or $(STUDY),demo)/workflow.zip

# With TEST_STATUS=<file>, pytest's exit status goes there and make adds no line of its own (used by .ci/run).
test: setup ## Run the tests
	.venv/bin/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_COVERAGE) $(PYTEST_ARGS)$(if $(TEST_STATUS),; echo $$? > "$(TEST_STATUS)")

fuzz: setup ## Attack the readers of files of others (MINUTES=10)
	OMP_NUM_THREADS=1 .venv/bin/python tests/fuzzing.py --minutes $(or $(MINUTES),10)

faults: setup ## Every command with a fault at every one of its file operations: kills, full and read-only disks (hours)
	FAULTS=every .venv/bin/python -m pytest -s tests/test_faults.py

lint: types ## Check style, types and workflow
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/snakemake --lint $(SNAKEMAKE_CONFIG)

types: setup ## Check types
	.venv/bin/mypy

bench: setup ## Measure speeds on an idle machine; renew results/bench and docs/benchmarks.md
	.venv/bin/python bench/bench_composer.py --output results/bench/composer.csv
	.venv/bin/python bench/bench_pretrain.py --output results/bench/pretrain.csv
	.venv/bin/python bench/bench_extract.py --output results/bench/extract.csv
	.venv/bin/python bench/bench_probe.py --output results/bench/probe.csv
	.venv/bin/python bench/bench_first_run.py --output results/bench/first_run.csv
	.venv/bin/python bench/summary.py

lock: setup ## Renew requirements.lock after an edit of pyproject.toml (UPGRADE=1: newest versions)
	.venv/bin/python scripts/lock.py $(if $(UPGRADE),--upgrade)

# The committed results are never touched. figures/ and tables/ show one study: they go with it, or with all.
clean-results: ## Delete generated results, figures and tables (STUDY=smoke: of that study only)
	[ ! -d results ] || find results/ -mindepth 1 -maxdepth 1 $(if $(STUDY),-name '$(STUDY)') \
	    ! -name reference ! -name gpu ! -name bench -exec rm -rf {} +
	for folder in figures tables; do \
	    if [ -z '$(STUDY)' ] || [ "$$(cat $$folder/STUDY 2>/dev/null)" = '$(STUDY)' ]; then rm -rf $$folder; fi; \
	done
