"""Judge every claim of ``config/claims.yaml`` by the tables of a study.

    python -m cl_vs_mim.audit --config config/demo.yaml --claims config/claims.yaml --tables results/demo/tables \\
        --output results/demo/claims.json
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cl_vs_mim.artifacts import row_head, sha256_file, write_json
from cl_vs_mim.audit.bootstrap import holm
from cl_vs_mim.audit.claims import Claim, load_claims
from cl_vs_mim.audit.measure import measure
from cl_vs_mim.audit.verdict import NOT_TESTED, Measured, Verdict, judge
from cl_vs_mim.config import Study, load_study
from cl_vs_mim.errors import UserError, run_cli
from cl_vs_mim.progress import progress


def judge_claim(claim: Claim, study: Study, tables: Path) -> tuple[Verdict, list[Measured]]:
    """Its verdict and its contrasts; no contrasts where it is not tested here."""
    if claim.not_tested:
        return Verdict(NOT_TESTED, claim.not_tested), []
    try:
        measured = [
            measure(study, tables, contrast, claim.about_training, study.figures.bootstrap)
            for contrast in claim.contrasts
        ]
    except UserError as error:
        return Verdict(NOT_TESTED, str(error)), []
    return judge(measured, claim.about_training), measured


def audit(claims: dict[str, Claim], study: Study, tables: Path) -> dict[str, Any]:
    """All claims, judged, with Holm's adjustment over those that were tested."""
    rows, p_values = {}, {}
    for number, claim in progress(claims.items(), total=len(claims), desc="claims", unit="claim"):
        verdict, measured = judge_claim(claim, study, tables)
        rows[number] = {
            **claim.model_dump(mode="json", exclude={"contrasts", "not_tested"}),
            **asdict(verdict),
            "contrasts": [_plain(one) for one in measured],
            "seeds": min((one.seeds for one in measured), default=0),
        }
        if measured:  # a conjunction holds no more surely than its weakest part
            p_values[number] = max(one.effect.p_value for one in measured)
    for number, adjusted in holm(p_values).items():
        rows[number] |= {"p_value": p_values[number], "p_holm": adjusted}
    return rows


def _plain(one: Measured) -> dict[str, Any]:
    found = asdict(one)
    for key in ("effect", "beyond_control"):
        if found[key] is not None:
            found[key]["effect_size"] = getattr(one, key).effect_size
    return found


def main(arguments: argparse.Namespace) -> None:
    """Write ``claims.json``."""
    study = load_study(arguments.config)
    rows = audit(load_claims(arguments.claims), study, arguments.tables)
    head = row_head(
        study=study.study,
        config_hash=study.digest(),
        data_hash=sha256_file(arguments.claims),
        device=torch.device("cpu"),
    )
    write_json(
        arguments.output,
        {
            "head": head,
            "title": study.title,
            "reduced": study.reduced,
            "verdicts": dict(Counter(row["verdict"] for row in rows.values())),
            "claims": rows,
        },
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cl_vs_mim.audit", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML")
    parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the study's tables")
    parser.add_argument("--output", type=Path, required=True, help="….json")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
