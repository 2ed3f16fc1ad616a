"""The audit: intervals that cover, rates of error that hold, and verdicts by the written rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cl_vs_mim.audit import __main__ as command
from cl_vs_mim.audit.bootstrap import Effect, bootstrap_effect, holm
from cl_vs_mim.audit.claims import Claim, Contrast, Term, load_claims
from cl_vs_mim.audit.measure import measure, reduce_depths
from cl_vs_mim.audit.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_TESTED,
    ON_THIS_PAIR,
    SUPPORTED,
    Measured,
    judge,
)
from cl_vs_mim.config import Bootstrap, Study, load_study
from cl_vs_mim.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
BOOTSTRAP = Bootstrap(level=0.95, resamples=400, seed=0)
TRUTH = 0.3


def simulated(rng: np.random.Generator, seeds: int, images: int, mean: float, shared: np.ndarray) -> np.ndarray:
    """(seeds, images, 1): trainings that differ, images that differ in the same way for all encoders, and noise."""
    training = rng.normal(0, 0.3, (seeds, 1, 1))
    return mean + training + shared + rng.normal(0, 0.5, (seeds, images, 1))


def difference(means) -> float:
    return float(means["a"][0] - means["b"][0])


# ------------------------------------------------------------------------------------------------
# Bootstrap
# ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(8, 0.88), (3, 0.7)])
def test_the_interval_covers_the_truth(seeds: int, least: float) -> None:
    """With 8 seeds about as often as it says; with 3 a percentile bootstrap is too narrow, which the docs say."""
    rng, covered, rounds = np.random.default_rng(seeds), 0, 150
    for number in range(rounds):
        shared = rng.normal(0, 2, (1, 60, 1))
        values = {name: simulated(rng, seeds, 60, mean, shared) for name, mean in (("a", TRUTH), ("b", 0.0))}
        found = bootstrap_effect(values, difference, margin=0, level=0.95, resamples=200, seed=number)
        covered += found.low <= TRUTH <= found.high
    assert least <= covered / rounds <= 0.99


def test_images_are_paired() -> None:
    """What all encoders share of an image does not widen the interval."""
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(0, 0.1, (1, 50, 1)) for name in "ab"}
    shared = rng.normal(0, 50, (1, 50, 1))
    options = {"margin": 0, "level": 0.95, "resamples": 300, "seed": 1}
    alone = bootstrap_effect(noise, difference, **options)
    together = bootstrap_effect({name: array + shared for name, array in noise.items()}, difference, **options)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=1e-6)


def test_seeds_widen_the_interval_of_one_image_set() -> None:
    rng = np.random.default_rng(0)
    flat = {name: rng.normal(0, 0.01, (4, 30, 1)) for name in "ab"}
    spread = flat | {"a": flat["a"] + np.array([-1, 1, -1, 1]).reshape(4, 1, 1)}
    options = {"margin": 0, "level": 0.95, "resamples": 300, "seed": 1}
    narrow, wide = (bootstrap_effect(values, difference, **options) for values in (flat, spread))
    assert wide.high - wide.low > 20 * (narrow.high - narrow.low)


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="the same for all encoders"):
        bootstrap_effect(
            {"a": np.zeros((1, 5, 1)), "b": np.zeros((1, 6, 1))}, difference, margin=0, level=0.9, resamples=5, seed=0
        )
    broken = {"a": np.full((1, 5, 1), np.nan), "b": np.zeros((1, 5, 1))}
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_effect(broken, difference, margin=0, level=0.9, resamples=5, seed=0)


def test_holm_steps_down() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a": 0.03, "b": 0.06, "c": 0.06}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


# ------------------------------------------------------------------------------------------------
# Verdicts
# ------------------------------------------------------------------------------------------------


def effect(low: float, high: float) -> Effect:
    return Effect((low + high) / 2, low, high, 0.01, 0.1, 100)


def contrast(low: float, high: float, control: tuple[float, float] | None = (1, 2), seeds: int = 3) -> Measured:
    return Measured("x", 0.5, effect(low, high), None if control is None else effect(*control), seeds)


@pytest.mark.parametrize(
    ("contrasts", "about_training", "expected"),
    [
        ([contrast(0.6, 1)], True, SUPPORTED),
        ([contrast(0.4, 1)], True, INCONCLUSIVE),
        ([contrast(0.1, 0.4)], True, CONTRADICTED),
        ([contrast(0.6, 1), contrast(0.1, 0.4)], True, CONTRADICTED),
        ([contrast(0.6, 1), contrast(0.4, 0.6)], True, INCONCLUSIVE),
        ([contrast(0.6, 1, control=(-0.1, 2))], True, INCONCLUSIVE),
        ([contrast(0.6, 1, control=None)], False, SUPPORTED),
        ([contrast(0.6, 1, seeds=1)], True, SUPPORTED + ON_THIS_PAIR),
        ([contrast(0.1, 0.4, seeds=1)], True, CONTRADICTED + ON_THIS_PAIR),
        ([contrast(0.6, 1, None, seeds=1)], False, SUPPORTED),
    ],
)
def test_the_written_rule(contrasts: list[Measured], about_training: bool, expected: str) -> None:
    assert judge(contrasts, about_training).verdict == expected


@pytest.mark.slow
def test_a_claim_that_is_false_is_rarely_supported() -> None:
    """With no difference, at most about 2.5 % of the intervals lie above it (and with few seeds somewhat more)."""
    rng, supported, rounds = np.random.default_rng(5), 0, 150
    for number in range(rounds):
        shared = rng.normal(0, 2, (1, 40, 1))
        values = {name: simulated(rng, 8, 40, 0.0, shared) for name in "ab"}
        found = bootstrap_effect(values, difference, margin=0, level=0.95, resamples=200, seed=number)
        supported += judge([Measured("x", 0, found, None, 8)], False).verdict == SUPPORTED
    assert supported / rounds < 0.08


# ------------------------------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(ROOT / "config" / "smoke.yaml")


IMAGES, DEPTHS = 20, 3
ATTENTION = {"name": "late", "table": "attention", "where": {"metric": "nmi"}}
LATE = {"depths": (0.5, 1.0)}


def write(tables: Path, model: str, values: list[float], metric: str = "nmi", seed: int = 0) -> Path:
    """A table of ``values`` by depth, two heads around it, images that differ a little."""
    rng = np.random.default_rng(len(model))
    rows = [
        {
            "image": f"val/{image}",
            "depth": depth + 1,
            "head": head,
            "metric": metric,
            "value": value + head - 0.5 + noise,
        }
        for image, noise in enumerate(rng.normal(0, 0.01, IMAGES))
        for depth, value in enumerate(values)
        for head in (0, 1)
    ]
    path = tables / "attention" / f"{model}_seed{seed}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    write(tmp_path, "moco_v3", [0.5, 0.2, 0.1])
    write(tmp_path, "simmim", [0.5, 0.6, 0.7])
    write(tmp_path, "untrained_vit", [0.0, 0.0, 0.0])
    write(tmp_path, "untrained_beit", [0.0, 0.1, 0.1])
    return tmp_path


def late(**options) -> Contrast:
    given = {"more": {"model": "mim", **LATE}, "less": {"model": "cl", **LATE}}
    return Contrast.model_validate(ATTENTION | given | options)


def test_a_contrast_is_the_difference_of_the_means(study: Study, tables: Path) -> None:
    found = measure(study, tables, late(), True, BOOTSTRAP)
    assert found.effect.value == pytest.approx(0.5, abs=0.02)
    assert found.beyond_control.value == pytest.approx(0.4, abs=0.02), "the architectures alone make 0.1"
    assert found.effect.low < found.effect.value < found.effect.high and found.seeds == 1


def test_depths_are_relative_and_reduced_as_asked() -> None:
    depths, values = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 1, 4, 2, 3])
    for over, span, expected in (
        *(("mean", (0, 1), 3), ("max", (0, 0.5), 5), ("min", (0.5, 1), 2)),
        *(("first", (0.25, 1), 1), ("last", (0, 0.75), 2), ("mean", (0.5, 0.5), 4)),
    ):
        assert reduce_depths(depths, values, Term(model="cl", depths=span, over=over)) == expected


def test_a_broken_table_flips_the_verdict(study: Study, tables: Path) -> None:
    claim = Claim(statement="x", figure="fig4", strength="strong", contrasts=[late()])
    assert command.judge_claim(claim, study, tables)[0].verdict == SUPPORTED + ON_THIS_PAIR
    write(tables, "moco_v3", [0.5, 0.8, 0.9])
    assert command.judge_claim(claim, study, tables)[0].verdict == CONTRADICTED + ON_THIS_PAIR
    write(tables, "moco_v3", [0.5, 0.2, 0.1])
    write(tables, "untrained_beit", [0.9, 0.9, 0.9])
    verdict, _ = command.judge_claim(claim, study, tables)
    assert verdict.verdict == INCONCLUSIVE and "untrained architectures" in verdict.reason


def test_what_is_missing_is_not_tested_and_named(study: Study, tables: Path) -> None:
    def verdict(**options):
        claim = Claim(statement="x", figure="fig4", strength="strong", contrasts=[late(**options)])
        return command.judge_claim(claim, study, tables)[0]

    assert verdict(table="diversity").reason == "there is no table diversity of moco_v3, seed 0"
    assert "no model 'resnet'" in verdict(more={"model": "resnet"}).reason
    assert "no rows of {'metric': 'energy'}" in verdict(where={"metric": "energy"}).reason
    assert "no column colour" in verdict(where={"colour": "red"}).reason
    frame = pd.read_parquet(tables / "attention" / "simmim_seed0.parquet")
    frame[frame["image"] != "val/3"].to_parquet(tables / "attention" / "simmim_seed0.parquet")
    assert "are of different images" in verdict().reason
    assert verdict().verdict == NOT_TESTED


def test_the_command_writes_every_claim(tables: Path, tmp_path: Path) -> None:
    output = tmp_path / "claims.json"
    words = ["--config", ROOT / "config" / "smoke.yaml", "--claims", ROOT / "config" / "claims.yaml"]
    words += ["--tables", tables, "--output", output]
    command.main(command._parser().parse_args(list(map(str, words))))
    found = json.loads(output.read_text())
    assert set(found["claims"]) == set(load_claims(ROOT / "config" / "claims.yaml"))
    assert sum(found["verdicts"].values()) == len(found["claims"])
    late_information = found["claims"]["C9"]
    assert late_information["verdict"] == SUPPORTED + ON_THIS_PAIR and late_information["p_holm"] <= 1
    assert late_information["contrasts"][0]["effect"]["effect_size"] > 3


# ------------------------------------------------------------------------------------------------
# claims.yaml
# ------------------------------------------------------------------------------------------------


def test_the_committed_claims_are_valid_and_name_known_models() -> None:
    claims, demo = load_claims(ROOT / "config" / "claims.yaml"), load_study(ROOT / "config" / "demo.yaml")
    terms = {t.model for c in claims.values() for one in c.contrasts for t in (one.more, one.less)}
    assert terms <= {"cl", "mim", *demo.models}
    assert {"C1", "C7", "C9", "C19", "C23", "C28"} <= set(claims)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("strength: strong", "strength: huge"), r"C1\.strength"),
        (("figure: fig1", "figur: fig1"), r"C1\.figur"),
        (("C1:", "claim1:"), "claim1"),
        (("not_tested: the study has one model size", "note: none"), "give either contrasts, or not_tested"),
    ],
)
def test_a_faulty_claim_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = (ROOT / "config" / "claims.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    path = tmp_path / "claims.yaml"
    path.write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_claims(path)
