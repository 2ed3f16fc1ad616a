"""Studies side by side, and where a study of our scale would find a published number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from audit_tables import write_pair
from checkout import STUDIES
from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.compare import by_scale, rows
from cl_vs_mim.audit.estimate import Estimate, Part, estimate, predicted
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.provenance import code_of_metric
from cl_vs_mim.audit.result import Report
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.audit.simulate import allowed
from cl_vs_mim.config import load_study

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("tables")
    write_pair(folder)
    file = load_claims(ROOT / "config" / "claims.yaml")
    few = file.model_copy(update={"claims": {name: file.claims[name] for name in ("C6", "C9")}, "curves": []})
    tables = Tables(load_study(ROOT / "config" / "smoke.yaml"), folder)
    return Audit(few, tables, ROOT / "results/reference/reference_values.csv").report("0" * 64, "1" * 64)


def another(report: Report, name: str, scale: int, value: float | None) -> Report:
    """The same audit of another study, in which C9 has this effect, or was not measured."""
    claim = report.claims["C9"]
    ends = {"value": value, "low": value and value - 0.03, "high": value and value + 0.04}
    contrasts = [one.model_copy(update={"effect": one.effect.model_copy(update=ends)}) for one in claim.contrasts]
    changed = claim.model_copy(update={"contrasts": contrasts if value is not None else []})
    return report.model_copy(update={"study": name, "scale": scale, "claims": report.claims | {"C9": changed}})


@pytest.mark.parametrize(
    ("values", "same_sign", "answer"),
    [
        ((0.1, 0.2, 0.4), True, "grows"),
        ((0.4, 0.5, 0.2), True, "falls"),
        ((0.1, 0.4, 0.14), True, "open"),  # the intervals are wider than the difference
        ((-0.1, 0.2, 0.4), False, "grows"),
        ((None, 0.2, None), None, ""),
        ((None, 0.2, 0.1), True, "falls"),
    ],
)
def test_signs_and_growth_across_studies(report: Report, values, same_sign, answer) -> None:
    studies = [another(report, f"s{scale}", scale, value) for scale, value in zip((10, 20, 30), values, strict=True)]
    found = {row.claim: row for row in rows(by_scale(studies[::-1]))}["C9"]
    assert (found.effects, found.same_sign, found.answer) == (list(values), same_sign, answer)
    there = [value for value in values if value is not None]
    if answer:
        ends = (there[-1] - there[0], there[-1] - there[0] - 0.05, there[-1] - there[0] + 0.05)
        assert found.growth == pytest.approx(ends), "0.03 and 0.04 are the legs of 0.05"


def test_studies_of_one_scale_say_nothing_of_growth(report: Report) -> None:
    twins = [another(report, name, 10, value) for name, value in (("a", 0.1), ("b", 0.2))]
    assert {row.claim: row.growth for row in rows(by_scale(twins))}["C9"] is None


def test_growth_is_said_of_studies_of_one_truth_no_oftener_than_the_level(report: Report) -> None:
    rng, rounds, said = np.random.default_rng(5), 400, 0
    for _ in range(rounds):
        studies = []
        for scale in (10, 20):
            seen = estimate([Part(1, "a", (), rng.normal(0.3, 0.1, (4, 1)))])
            half = float(seen.half_width(0.95))
            one = another(report, f"s{scale}", scale, float(seen.value))
            record = one.claims["C9"].contrasts[0]
            ends = {"low": record.effect.value - half, "high": record.effect.value + half}
            record = record.model_copy(update={"effect": record.effect.model_copy(update=ends)})
            claims = one.claims | {"C9": one.claims["C9"].model_copy(update={"contrasts": [record]})}
            studies.append(one.model_copy(update={"claims": claims}))
        said += {row.claim: row for row in rows(studies)}["C9"].answer != "open"
    assert said / rounds <= allowed(0.05, rounds)


def test_a_prediction_holds_a_new_study_as_often_as_it_says() -> None:
    rng, rounds = np.random.default_rng(3), 4000
    ours = estimate(
        [Part(1, "a", (), rng.normal(0, 1, (4, 1, rounds))), Part(-1, "b", (), rng.normal(0, 1, (4, 1, rounds)))]
    )
    new = rng.normal(0, 1, rounds) - rng.normal(0, 1, rounds)
    ends = np.array([predicted(ours, 0.95, place) for place in range(rounds)])
    assert 0.95 <= ((ends[:, 0] <= new) & (new <= ends[:, 1])).mean() < 0.99


def test_one_seed_predicts_nothing() -> None:
    alone = Estimate(np.ones(1), np.ones(1), np.ones(1), np.full(1, np.nan))
    assert predicted(alone, 0.95, 0) is None
    known = Estimate(np.ones(1), np.full(1, 3.0), np.full(1, 1e7), np.full(1, 16.0))
    assert predicted(known, 0.95, 0) == pytest.approx((1 - stats.norm.ppf(0.975) * 5, 1 + stats.norm.ppf(0.975) * 5))


def test_a_report_holds_scale_and_no_prediction_from_one_seed(report: Report) -> None:
    assert report.scale == 12 * 3 * 64**2
    assert all(one.prediction is None for claim in report.claims.values() for one in claim.contrasts)


@pytest.mark.parametrize("name", STUDIES)
def test_every_claim_links_to_the_code_of_its_metric(name: str) -> None:
    study = load_study(ROOT / "config" / f"{name}.yaml")
    for claim in load_claims(ROOT / "config" / "claims.yaml").claims.values():
        for contrast in claim.contrasts:
            path = code_of_metric(study, contrast)
            assert path == "" or (ROOT / path).is_file(), path
            assert path or contrast.table in ("detection", "segmentation"), f"{contrast.name}: {contrast.table}"
