"""docs/findings.md: its sentences stand only as long as the audit bears them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audit_tables import write_pair
from cl_vs_mim.audit import findings
from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.result import EffectRecord, Report
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.audit.verdict import ON_THESE
from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = (Path(findings.__file__).parent / findings.DATA_FILES[0]).read_text(encoding="utf-8")


def rested_on() -> dict[str, str]:
    """Claim -> the kind of verdict that a sentence of the template rests on."""
    calls = re.findall(r'resting_on\(([^)]*), verdict="([^"]*)"\)', TEMPLATE)
    return {name: verdict for names, verdict in calls for name in re.findall(r'"(\w+)"', names)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """An audit in which every claim has all its contrasts, and the verdict that the page says it has."""
    folder = tmp_path_factory.mktemp("tables")
    write_pair(folder)
    file = load_claims(ROOT / "config" / "claims.yaml")
    few = file.model_copy(update={"claims": {"C9": file.claims["C9"]}, "curves": []})
    tables = Tables(load_study(ROOT / "config" / "smoke.yaml"), folder)
    found = Audit(few, tables, ROOT / "results/reference/reference_values.csv").report("0" * 64, "1" * 64)
    measured = found.claims["C9"]
    effect = EffectRecord(value=0.25, low=-0.125, high=0.5, standard_error=0.1, effect_size=None)
    one = measured.contrasts[0].model_copy(update={"effect": effect, "beyond_control": effect})
    claims = {
        name: measured.model_copy(
            update={
                "verdict": rested_on().get(name, "inconclusive"),
                "statement": claim.statement,
                "decided_by": claim.contrasts[-1].name if claim.contrasts else "",
                "contrasts": [one.model_copy(update={"name": contrast.name}) for contrast in claim.contrasts],
            }
        )
        for name, claim in file.claims.items()
    }
    return found.model_copy(update={"claims": claims})


def changed(report: Report, claim: str, **update: object) -> Report:
    """The same audit with another record of a claim."""
    return report.model_copy(update={"claims": report.claims | {claim: report.claims[claim].model_copy(update=update)}})


def test_every_claim_stands_with_its_number_and_verdict(report: Report) -> None:
    text = findings.page(report)
    measured = {name: claim for name, claim in report.claims.items() if claim.decided_by}
    for name, claim in measured.items():
        assert f"| {name} | {claim.statement} |" in text
    assert text.count("0.25 [−0.125, 0.5]") >= len(measured) > 30
    assert "None" not in text and "{{" not in text


def test_what_was_not_measured_stands_by_its_reason(report: Report) -> None:
    report = changed(report, "C2", decided_by="", reason="the study has no model 'mae'")
    report = changed(report, "C1", decided_by="", reason="the study has no model 'mae'")
    text = findings.page(report)
    assert "- C1, C2: the study has no model 'mae'\n" in text and "| C2 |" not in text


@pytest.mark.parametrize("name", sorted(rested_on()))
def test_a_sentence_that_the_audit_no_longer_bears_is_not_written(report: Report, name: str) -> None:
    other = "contradicted" if rested_on()[name] != "contradicted" else "supported"
    with pytest.raises(UserError, match=f"calls {name} '{rested_on()[name]}', the audit calls it '{other}'"):
        findings.page(changed(report, name, verdict=other))
    findings.page(changed(report, name, verdict=rested_on()[name] + ON_THESE))


def test_a_claim_that_there_is_not_is_named(report: Report) -> None:
    claims = {name: claim for name, claim in report.claims.items() if name != "C9"}
    with pytest.raises(UserError, match="names claim 'C9'"):
        findings.page(report.model_copy(update={"claims": claims}))
