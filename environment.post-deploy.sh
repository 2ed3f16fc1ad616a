#!/usr/bin/env bash
# Snakemake runs this (`--sdm conda`) in the conda environment that it has just made of environment.yml: the locked
# packages and this project go into it, as `make setup` puts them into .venv.
set -euo pipefail
if [ ! -f scripts/setup.py ]; then
    echo "error: run Snakemake in the clone of the project: scripts/setup.py fills the conda environment" >&2
    exit 2
fi
python scripts/setup.py --into-active
