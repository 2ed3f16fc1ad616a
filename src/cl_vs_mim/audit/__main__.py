"""Judge every claim of ``config/claims.yaml`` by the tables of a study.

    python -m cl_vs_mim.audit --config config/demo.yaml --claims config/claims.yaml --tables results/demo/tables \\
        --reference results/reference/reference_values.csv --output results/demo/claims.json \\
        --schema results/demo/claims.schema.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.result import json_schema
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.core.files import sha256_file, write_json, write_text


def main(arguments: argparse.Namespace) -> None:
    """Write ``claims.json`` and its schema."""
    tables = Tables(load_study(arguments.config), arguments.tables)
    audit = Audit(load_claims(arguments.claims), tables, arguments.reference)
    report = audit.report(sha256_file(arguments.claims))
    write_json(arguments.schema, json_schema())
    write_text(arguments.output, report.model_dump_json(indent=2) + "\n")
    for verdict, count in report.verdicts.items():
        print(f"{count:3} {verdict}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cl_vs_mim.audit", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML")
    parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the study's tables")
    parser.add_argument("--reference", type=Path, required=True, help="published and digitised values")
    parser.add_argument("--output", type=Path, required=True, help="….json")
    parser.add_argument("--schema", type=Path, required=True, help="….schema.json")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
