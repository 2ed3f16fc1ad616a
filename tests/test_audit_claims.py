"""From claims.yaml and tables to claims.json: contrasts, windows, alternatives, provenance, and what is refused."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml

from audit_tables import IMAGES, write_attention, write_pair, write_rows
from cl_vs_mim.audit import commands as command
from cl_vs_mim.audit.agreement import agree, aligned
from cl_vs_mim.audit.bootstrap import Resampling
from cl_vs_mim.audit.claims import Claim, ClaimFile, Curve, Multiverse, Rule, load_claims
from cl_vs_mim.audit.contrasts import Contrast, Term
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.measure import Choices, measure
from cl_vs_mim.audit.multiverse import universes
from cl_vs_mim.audit.series import Series, Tables, model_of
from cl_vs_mim.audit.terms import reduced
from cl_vs_mim.audit.verdict import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, ON_THESE, SUPPORTED
from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = ROOT / "config" / "claims.yaml"
REFERENCE = ROOT / "results" / "reference" / "reference_values.csv"
RESAMPLING = Resampling(400, 0)
LATE = {"depths": (0.5, 1.0)}
RULE = Rule(version=1, date=date(2026, 1, 1))
EXCEED = {"enters": "exceed", "reason": "x"}
SMALL = {"value": 0.05, "reason": "x"}
ATTENTION = {"name": "late", "table": "attention", "where": {"metric": "nmi"}}


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(ROOT / "config" / "smoke.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pair(tmp_path)
    return tmp_path


def late(**options) -> Contrast:
    given = {"more": {"model": "mim", **LATE}, "less": {"model": "cl", **LATE}, "smallest": SMALL}
    return Contrast.model_validate(ATTENTION | given | options)


def measured(study: Study, folder: Path, contrast: Contrast, enters: str = "none", **choices):
    return measure(Tables(study, folder), contrast, enters, choices=Choices(**choices))


def value(study: Study, folder: Path, contrast: Contrast, **choices) -> float:
    return measured(study, folder, contrast, **choices).interval(0.95).value


def file_of(claim: Claim, multiverse: Multiverse | None = None) -> ClaimFile:
    return ClaimFile(rule=RULE, multiverse=multiverse or Multiverse(), claims={"C1": claim})


def claim_of(*contrasts: Contrast, **options) -> Claim:
    plain = [one.model_dump() for one in contrasts]
    return Claim.model_validate(
        {"statement": "x", "figure": "fig4", "strength": "strong", "contrasts": plain, "control": EXCEED} | options
    )


def verdict_of(study: Study, folder: Path, claim: Claim):
    return Audit(file_of(claim), Tables(study, folder), REFERENCE).judge_claim(claim)[0]


# ------------------------------------------------------------------------------------------------
# Contrasts
# ------------------------------------------------------------------------------------------------


def test_a_contrast_is_the_difference_of_the_means(study: Study, folder: Path) -> None:
    found = measured(study, folder, late(), "exceed")
    effect = found.interval(0.95)
    assert effect.value == pytest.approx(0.5, abs=0.02) and effect.low < effect.value < effect.high
    assert found.beyond(0.95).value == pytest.approx(0.4, abs=0.02), "the architectures alone make 0.1"
    assert (found.seeds, found.control_seeds, found.images) == (1, 1, IMAGES)
    assert found.effect_size > 10, "images differ by hundredths"
    assert {path.stem for path in found.paths} == {
        *("moco_v3_seed0", "simmim_seed0", "untrained_vit_seed0", "untrained_beit_seed0")
    }


def test_depths_are_relative_and_reduced_as_asked() -> None:
    values = np.tile([5.0, 1, 4, 2, 3], (1, 2, 1))
    curve = Series("cl", np.array([1.0, 2, 3, 4, 5]), values, ("a", "b"), None, (Path("x"),))
    for over, span, expected in (
        *(("mean", (0, 1), 3), ("max", (0, 0.5), 5), ("min", (0.5, 1), 2)),
        *(("first", (0.25, 1), 1), ("last", (0, 0.75), 2), ("mean", (0.5, 0.5), 4)),
    ):
        assert (reduced(curve, Term(model="cl", depths=span, over=over)) == expected).all()
    shifted = reduced(curve, Term(model="cl", depths=(0.5, 1.0)), shift=0.25)
    assert (shifted == 2.5).all(), "inner ends move, 0 and 1 do not"
    nearest = {(0.3, 0.4): 1, (0.4, 0.45): 4, (0.85, 0.9): 2, (0.8, 0.95): 2, (0.6, 0.65): 4, (0.35, 0.4): 1}
    for span, expected in nearest.items():  # of blocks at 0, 0.25, 0.5, 0.75 and 1
        assert (reduced(curve, Term(model="cl", depths=span)) == expected).all(), "none falls in: the nearest is taken"


def test_every_depth_is_asked_where_the_claim_says_so(study: Study, folder: Path) -> None:
    whole = {"more": {"model": "mim"}, "less": {"model": "cl"}}
    assert value(study, folder, late(**whole)) == pytest.approx(1.0 / 3, abs=0.02)
    found = measured(study, folder, late(**whole, every="both"), "exceed")
    assert found.effect.value == pytest.approx([0, 0.4, 0.6], abs=0.02), "at the first depth there is none"
    assert found.interval(0.95).value == found.effect.value.min() and found.depths[found.weakest] == "1"
    assert found.beyond(0.95).value == pytest.approx(0, abs=0.02)
    last = late(**whole | {"more": {"model": "mim", "over": "last"}}, every="less")
    assert measured(study, folder, last).effect.value == pytest.approx([0.2, 0.5, 0.6], abs=0.02)
    pairs = measured(study, folder, late(**whole, every="pair"))
    assert len(pairs.effect.value) == len(pairs.depths) == 9 and pairs.depths[1] == "1 and 2"
    steps = measured(study, folder, late(more={"model": "cl"}, less={"model": "cl"}, every="step"))
    assert steps.effect.value == pytest.approx([-0.3, -0.1], abs=0.02) and steps.depths == ("2", "3")
    with pytest.raises(UserError, match="a step needs two depths"):
        lone = {"model": "cl", "depths": [0.9, 1.0]}
        measured(study, folder, late(more=lone, less=lone, every="step"))
    with pytest.raises(ValueError, match="step needs the same term twice"):
        late(more={"model": "cl"}, less={"model": "mim"}, every="step")
    level = measured(study, folder, late(more=[], less={"model": "cl"}, every="alone", margin=-0.9))
    assert level.effect.value == pytest.approx([-0.5, -0.2, -0.1], abs=0.02) and level.depths == ("1", "2", "3")
    assert level.least_seen == pytest.approx(-0.5, abs=0.02) and pairs.least_seen is None
    write_attention(folder, "simmim", [0.5, 0.6])
    with pytest.raises(UserError, match="different numbers of depths"):
        measured(study, folder, late(**whole, every="both"))


def test_an_encoder_beats_its_untrained_one_from_above_only(study: Study, folder: Path) -> None:
    """From below it is different, and that is all."""
    write_attention(folder, "untrained_vit", [0.9, 0.9, 0.9])
    assert measured(study, folder, late(), "beat").untrained.trained() == 1
    assert measured(study, folder, late(), "differ").untrained.trained() < 0.001
    write_attention(folder, "untrained_vit", [0.0, 0.0, 0.0])
    assert measured(study, folder, late(), "beat").untrained.trained() < 0.001


def test_seeds_are_not_independent_where_the_others_choose_the_depth(
    study: Study, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, late_value in enumerate((0.7, 0.8, 0.6)):
        write_attention(folder, "simmim", [0.5, 0.6, late_value], seed)
    models = study.models | {"simmim": study.models["simmim"].model_copy(update={"seeds": [0, 1, 2]})}
    several = study.model_copy(update={"models": models})
    best = late(more={"model": "mim", "over": "max"}, less=[], smallest=None)
    chosen = measured(several, folder, best).effect
    monkeypatch.setattr("cl_vs_mim.audit.measure.CHOOSING", ())
    independent = measured(several, folder, best).effect
    assert chosen.value == independent.value
    assert chosen.error > 1.2 * independent.error or chosen.df < independent.df


def test_terms_add_up_and_a_level_is_a_contrast_too(study: Study, folder: Path) -> None:
    gains = late(
        more=[{"model": "mim", "over": "last"}, {"model": "cl", "over": "first"}],
        less=[{"model": "mim", "over": "first"}, {"model": "cl", "over": "last"}],
    )
    assert value(study, folder, gains) == pytest.approx(0.2 + 0.4, abs=0.02)
    level = late(more=[], less={"model": "cl", "over": "last"}, margin=-0.2)
    assert value(study, folder, level) == pytest.approx(-0.1, abs=0.02)


def test_shares_of_decisions_leave_other_images_out(study: Study, tmp_path: Path) -> None:
    def write(model: str, decisions: list[str]) -> None:
        rows = [{"image": f"{n}", "depth": 3, "decision": word} for n, word in enumerate(decisions)]
        write_rows(tmp_path, "cue_conflict", model, rows)

    write("moco_v3", ["shape", "shape", "shape", "texture", "other", "other"] * 5)
    write("simmim", ["shape", "texture", "texture", "texture", "other", "shape"] * 5)
    decision = {"column": "decision", "equals": ["shape"], "among": ["shape", "texture"]}
    asked = Contrast.model_validate(
        {
            "name": "shape",
            "table": "cue_conflict",
            "decision": decision,
            "more": {"model": "cl"},
            "less": {"model": "mim"},
        }
    )
    assert value(study, tmp_path, asked) == pytest.approx(3 / 4 - 2 / 5)
    none = asked.model_copy(update={"decision": asked.decision.model_copy(update={"among": ["colour"]})})
    with pytest.raises(UserError, match="no image of a table cue_conflict of moco_v3 is decided"):
        measured(study, tmp_path, none)
    asked_of_more = asked.model_copy(update={"decision": asked.decision.model_copy(update={"least": 21})})
    with pytest.raises(UserError, match="moco_v3 decides images of 20 objects in a way that counts, fewer than the 21"):
        measured(study, tmp_path, asked_of_more)
    assert measured(study, tmp_path, asked).effect.df[0] < 20, "ten of thirty images decide nothing"
    of_all = asked.model_copy(update={"decision": asked.decision.model_copy(update={"among": []})})
    assert value(study, tmp_path, of_all) == pytest.approx(3 / 6 - 2 / 6)


def test_rows_can_be_left_out(study: Study, tmp_path: Path) -> None:
    rows = [{"image": f"{n}", "depth": 3, "group": g, "value": v + 0.1 * n} for n in range(4)
            for g, v in ((("bird", 1.0), ("other", 50.0))[n % 2],)]  # fmt: skip
    write_rows(tmp_path, "embedding_purity", "moco_v3", rows)
    given = {"name": "x", "table": "embedding_purity", "more": {"model": "cl"}, "without": {"group": "other"}}
    assert value(study, tmp_path, Contrast.model_validate(given)) == pytest.approx(1.1)
    with pytest.raises(UserError, match="no column colour"):
        value(study, tmp_path, Contrast.model_validate(given | {"without": {"colour": "red"}}))


def test_lists_of_values_are_averaged_and_terms_override(study: Study, tmp_path: Path) -> None:
    for model, drop in (("moco_v3", 0.4), ("simmim", 0.1)):
        rows = [
            {"image": f"{n}", "depth": 3, "frequency": np.float32(f), "value": 0.9 - drop * (f == 0.1) + 1e-3 * n}
            for n in range(5)
            for f in (0.0, 0.1, 0.2)
        ]
        write_rows(tmp_path, "noise", model, rows)
    clean, noisy = ({"frequency": 0.0}, {"frequency": [0.1, 0.2]})
    asked = Contrast.model_validate(
        {
            "name": "drop",
            "table": "noise",
            "more": [{"model": "cl", "where": clean}, {"model": "mim", "where": noisy}],
            "less": [{"model": "cl", "where": noisy}, {"model": "mim", "where": clean}],
        }
    )
    assert value(study, tmp_path, asked) == pytest.approx(0.2 - 0.05)


def test_distances_can_be_shares_of_uniform_attention(study: Study, tmp_path: Path) -> None:
    from cl_vs_mim.metrics.yardstick import uniform_attention_distance

    rows = [{"image": f"{n}", "depth": 1, "value": 12.0 + n, "grid": 6, "patch_size": 8} for n in range(3)]
    write_rows(tmp_path, "attention", "moco_v3", rows)
    asked = Contrast.model_validate({"name": "x", "table": "attention", "per_uniform": True, "more": {"model": "cl"}})
    found = value(study, tmp_path, asked)
    assert found == pytest.approx(13 / uniform_attention_distance(6, 8))


def test_tables_without_images_vary_over_seeds_only(study: Study, tmp_path: Path) -> None:
    seeds = study.model_copy(
        update={"models": study.models | {"moco_v3": study.models["moco_v3"].model_copy(update={"seeds": [0, 1, 2]})}}
    )
    for seed, value in enumerate((10.0, 11.0, 12.0)):
        write_rows(tmp_path, "detection", "moco_v3", [{"metric": "AP", "value": value}], seed)
    write_rows(tmp_path, "detection", "simmim", [{"metric": "AP", "value": 5.0}])
    asked = Contrast.model_validate(
        {"name": "AP", "table": "detection", "more": {"model": "cl"}, "less": {"model": "mim"}}
    )
    found = measured(seeds, tmp_path, asked)
    effect = found.interval(0.95)
    assert effect.value == 6 and effect.low < 6 < effect.high
    assert (found.seeds, found.images) == (1, 0)
    assert measured(study, tmp_path, asked).interval(0.95).low is None, "one seed and no images: no interval"


def test_images_of_one_identity_enter_once(study: Study, tmp_path: Path) -> None:
    """Each image four times under other names is no more than each image once."""
    rng, widths, values = np.random.default_rng(0), [], []
    depths = rng.normal(0, 1, (12, 3))
    for each in (1, 4):
        rows = [
            {"image": f"val/{place:02}/{copy}.jpg", "depth": depth, "value": depths[place, depth]}
            for place in range(12)
            for copy in range(each)
            for depth in range(3)
        ]
        write_rows(tmp_path / str(each), "fourier", "moco_v3", rows)
        for over in ("last", "max"):
            asked = {"name": "x", "table": "fourier", "more": {"model": "cl", "over": over}}
            found = measured(study, tmp_path / str(each), Contrast.model_validate(asked))
            values.append(found.effect.value[0])
            widths.append(found.effect.half_width(0.95)[0])
    assert values[:2] == pytest.approx(values[2:]) and widths[:2] == pytest.approx(widths[2:])


def test_half_blocks_do_not_count(study: Study, tmp_path: Path) -> None:
    rows = [
        {"image": f"{n}", "depth": d, "value": v + 0.1 * n} for n in range(6) for d, v in ((0, 1), (0.5, 99), (1, 2))
    ]
    write_rows(tmp_path, "fourier", "moco_v3", rows)
    asked = Contrast.model_validate({"name": "x", "table": "fourier", "more": {"model": "cl", "over": "max"}})
    assert value(study, tmp_path, asked) == pytest.approx(2.3), "the mean of images 1, 3 and 5"


def test_sizes_are_found_where_there_are_several(study: Study) -> None:
    with pytest.raises(UserError, match="one size of"):
        model_of(study, "cl:largest")
    wide = study.architectures["vit"].model_copy(update={"width": 96})
    bigger = study.models["moco_v3"].model_copy(update={"architecture": "wide"})
    more = study.model_copy(
        update={"models": study.models | {"moco_wide": bigger}, "architectures": study.architectures | {"wide": wide}}
    )
    assert (model_of(more, "cl:smallest"), model_of(more, "cl:largest")) == ("moco_v3", "moco_wide")
    with pytest.raises(UserError, match="no size of MoCo v3 between"):
        model_of(more, "cl:middle")
    widest = study.architectures["vit"].model_copy(update={"width": 128})
    three = more.model_copy(
        update={
            "models": more.models | {"moco_widest": bigger.model_copy(update={"architecture": "widest"})},
            "architectures": more.architectures | {"widest": widest},
        }
    )
    assert [model_of(three, f"cl:{place}") for place in ("smallest", "middle", "largest")] == [
        *("moco_v3", "moco_wide", "moco_widest")
    ]
    assert model_of(study, "mim_untrained") == "untrained_beit"


# ------------------------------------------------------------------------------------------------
# Verdicts
# ------------------------------------------------------------------------------------------------


def test_a_broken_table_flips_the_verdict(study: Study, folder: Path) -> None:
    claim = claim_of(late())
    assert verdict_of(study, folder, claim).verdict == SUPPORTED + ON_THESE
    write_attention(folder, "moco_v3", [0.5, 0.8, 0.9])
    assert verdict_of(study, folder, claim).verdict == CONTRADICTED + ON_THESE
    write_attention(folder, "moco_v3", [0.5, 0.2, 0.1])
    write_attention(folder, "untrained_beit", [0.9, 0.9, 0.9])
    found = verdict_of(study, folder, claim)
    assert found.verdict == INCONCLUSIVE and "the untrained encoders" in found.reason


def test_what_is_missing_is_not_tested_and_named(study: Study, folder: Path) -> None:
    def found(**options):
        return verdict_of(study, folder, claim_of(late(**options)))

    assert found(table="diversity").reason == "there is no table diversity of simmim, seed 0"
    assert "no model 'resnet'" in found(more={"model": "resnet"}).reason
    assert "no rows of {'metric': ('energy',)}" in found(where={"metric": "energy"}).reason
    assert "no column colour" in found(where={"colour": "red"}).reason
    assert found(table="diversity").verdict == NOT_TESTED
    frame = pd.read_parquet(folder / "attention" / "simmim_seed0.parquet")
    frame.iloc[1:].assign(value=np.inf).to_parquet(folder / "attention" / "simmim_seed0.parquet")
    assert "not finite" in found().reason
    frame[frame["image"] != "val/3"].to_parquet(folder / "attention" / "simmim_seed0.parquet")
    assert "tables attention of simmim and moco_v3 are of different images" in found().reason
    frame[frame["image"] == "val/3"].to_parquet(folder / "attention" / "simmim_seed0.parquet")
    assert "has one image" in found().reason


def test_a_seed_that_is_a_copy_of_another_is_refused(study: Study, folder: Path) -> None:
    """Three of one and the same table would be three seeds without any spread."""
    seeds = {name: model.model_copy(update={"seeds": [0, 1, 2]}) for name, model in study.models.items()}
    analysis = study.analysis.model_copy(update={"control_seeds": list(range(5))})
    three = study.model_copy(update={"models": seeds, "analysis": analysis})
    for name, values in (("moco_v3", [0.5, 0.2, 0.1]), ("simmim", [0.5, 0.6, 0.7])):
        for seed in (1, 2):
            write_attention(folder, name, values, seed)
    for name in ("untrained_vit", "untrained_beit"):
        for seed in range(1, 5):
            write_attention(folder, name, [0.0, 0.05, 0.1], seed)
    claim = claim_of(late())
    assert verdict_of(three, folder, claim).verdict == SUPPORTED
    copied = pd.read_parquet(folder / "attention" / "simmim_seed0.parquet").assign(seed=2, git_commit="def")
    copied.sample(frac=1, random_state=0).to_parquet(folder / "attention" / "simmim_seed2.parquet")
    found = verdict_of(three, folder, claim)
    assert found.verdict == NOT_TESTED and "simmim_seed0 and simmim_seed2 have the same value" in found.reason


def test_what_a_question_needs_comes_first(study: Study, folder: Path) -> None:
    need = late(name="MoCo v3 has more", more={"model": "cl"}, less={"model": "mim"}).model_dump()
    found = verdict_of(study, folder, claim_of(late(), needs=[need]))
    assert (found.verdict, found.reason) == (NOT_TESTED, "it does not hold that MoCo v3 has more")
    kept = verdict_of(study, folder, claim_of(late(), needs=[late(name="x").model_dump()]))
    assert kept.verdict == SUPPORTED + ON_THESE


# ------------------------------------------------------------------------------------------------
# Multiverse and agreement
# ------------------------------------------------------------------------------------------------


def varied(claim: Claim, study: Study, folder: Path, options: Multiverse) -> list:
    return list(universes(claim, Tables(study, folder), file_of(claim, options), 0.95))


def _chosen(universe) -> list[str]:
    return [universe.choices[name] for name in ("heads", "images", "window")]


def test_universes_are_all_other_combinations(study: Study, folder: Path) -> None:
    options = Multiverse(heads=["mean", "max"], images=[1.0, 0.5], shifts=[0.0, -0.5])
    other = {"name": "another metric", "where": {"metric": "energy"}}
    found = varied(claim_of(late()), study, folder, options)
    assert len(found) == 2 * 2 * 2 - 1
    highest = next(one for one in found if one.choices["heads"] == "max" and one.choices["window"] == "as stated")
    assert highest.measured[0].interval(0.95).value == pytest.approx(0.5, abs=0.02)
    earlier = next(one for one in found if _chosen(one) == ["mean", "all", "-0.5"])
    assert earlier.measured[0].interval(0.95).value == pytest.approx(1.0 / 3, abs=0.02)
    half = next(one for one in found if _chosen(one) == ["mean", "1/2", "as stated"])
    assert half.measured[0].images == IMAGES // 2
    with_other = varied(claim_of(late(alternatives=[other])), study, folder, options)
    assert len(with_other) == len(found), "a reading that is not in the tables is left out"


def test_choices_that_come_to_the_same_numbers_are_one_universe(study: Study, folder: Path) -> None:
    """Of two heads mean and median are one; at 3 depths a shift of a twentieth moves no depth over an end."""
    options = Multiverse(heads=["mean", "median", "max"], shifts=[0.0, -0.05, -0.1, -0.5])
    tables, claim = Tables(study, folder), claim_of(late())
    stated = [measure(tables, claim.contrasts[0], "exceed")]
    found = list(universes(claim, tables, file_of(claim, options), 0.95, stated=stated))
    assert {(one.choices["heads"], one.choices["window"]) for one in found} == {
        *(("mean", "-0.5"), ("max", "as stated"), ("max", "-0.5"))
    }
    audit = Audit(file_of(claim, options), tables, REFERENCE)
    assert len(audit.report("0" * 64, "1" * 64).claims["C1"].multiverse) == 3, "the verdict's own is not counted again"


def test_a_window_may_be_read_as_its_mean(study: Study, folder: Path) -> None:
    each = late(every="both", alternatives=[{"name": "mean", "together": True}])
    (found,) = varied(claim_of(each), study, folder, Multiverse())
    assert found.choices["reading"] == "mean" and len(found.measured[0].effect.value) == 1
    assert found.measured[0].interval(0.95).value == pytest.approx(value(study, folder, late()))


def test_another_grid_is_another_universe(study: Study, folder: Path) -> None:
    grids = study.model_copy(update={"analysis": study.analysis.model_copy(update={"grids": [4, 9]})})
    for model, values in (("moco_v3", [0.5, 0.9]), ("simmim", [0.5, 0.1]), ("untrained_vit", [0, 0])):
        write_attention(folder / "grid4", model, values)
    write_attention(folder / "grid4", "untrained_beit", [0, 0])
    options = Multiverse()
    found = varied(claim_of(late()), grids, folder, options)
    assert [one.choices["grid"] for one in found] == ["4 patches a side"], "9 was not measured"
    assert found[0].verdict.kind == CONTRADICTED
    assert {path.relative_to(folder).parts[0] for path in found[0].measured[0].paths} == {"grid4"}


def test_a_verdict_that_hangs_on_a_choice_is_seen(study: Study, folder: Path) -> None:
    write_attention(folder, "simmim", [0.5, 0.6, 0.7], spread=0.0)
    options = Multiverse(heads=["mean", "max", "min"])
    found = {one.choices["heads"]: one.verdict.kind for one in varied(claim_of(late()), study, folder, options)}
    assert found["max"] != SUPPORTED and found["min"] == SUPPORTED


def test_curves_are_aligned_by_share_of_depth() -> None:
    ours, theirs = aligned(np.arange(7), np.arange(1, 13))
    assert ours[0] == 0 and theirs[0] == pytest.approx(1 / 12) and ours[-1] == theirs[-1] == 1
    ours, theirs = aligned(np.arange(1, 7), np.arange(1, 13))
    assert ours[0] == theirs[0] == 0
    ours, theirs = aligned(np.arange(6, 9), np.arange(12, 21))
    assert list(ours) == [0, 0.5, 1] and theirs[4] == 0.5


def test_agreement_is_full_with_the_published_curve_itself(study: Study, tmp_path: Path) -> None:
    published = pd.read_csv(REFERENCE).query("figure == 'fig10' and method == 'MAE'")
    for model, sign in (("moco_v3", 1), ("simmim", -1)):
        rows = [
            {"image": f"{n}", "depth": int(x), "value": sign * y / 100 + 1e-4 * n}
            for n in range(5)
            for x, y in zip(published["x"].astype(float), published["y"], strict=True)
        ]
        write_rows(tmp_path, "linear_probe", model, rows)

    def curve(model: str, **options) -> Curve:
        given = {"name": "x", "figure": "fig10", "method": "MAE", "scale": 100, "model": model, "table": "linear_probe"}
        return Curve.model_validate(given | {"reading_error": 0.01} | options)

    def found(one: Curve):
        return agree(Tables(study, tmp_path), one, REFERENCE, RESAMPLING, 0.95)

    same, mirrored = found(curve("cl")), found(curve("mim"))
    assert same.rank_correlation.value == pytest.approx(1) and same.distance.value < 0.01
    assert mirrored.rank_correlation.value == pytest.approx(-1) and mirrored.distance.value > 1
    doubtful = found(curve("cl", reading_error=20.0))
    assert doubtful.rank_correlation.low < 0.95, "what was read badly agrees less surely"
    with pytest.raises(UserError, match="has no curve of nobody"):
        found(curve("cl", method="nobody"))


# ------------------------------------------------------------------------------------------------
# claims.json
# ------------------------------------------------------------------------------------------------


def run(folder: Path, output: Path) -> dict:
    config = ROOT / "config" / "smoke.yaml"
    command.claims(config=config, claims=CLAIMS, tables=folder, reference=REFERENCE, output=output)
    return json.loads(output.read_text())


def test_the_command_writes_every_claim_with_its_origin(folder: Path, tmp_path: Path, capsys) -> None:
    found = run(folder, tmp_path / "claims.json")
    jsonschema.validate(found, json.loads((tmp_path / "claims.schema.json").read_text()))
    assert set(found["claims"]) == set(load_claims(CLAIMS).claims)
    assert sum(found["verdicts"].values()) == len(found["claims"])
    late_information = found["claims"]["C9"]
    assert late_information["verdict"] == SUPPORTED + ON_THESE and late_information["p_holm"] <= 1
    assert late_information["agreeing"] <= len(late_information["multiverse"]) > 0
    assert found["claims"]["C23"]["verdict"] == NOT_TESTED
    origin = found["tables"]["attention/simmim_seed0"]
    assert len(origin["sha256"]) == 64 and origin["head"]["git_commit"] == "abc" and origin["seed"] == 0
    assert origin["command"].endswith("--config study=smoke -- results/smoke/tables/attention/simmim_seed0.parquet")
    assert set(late_information["contrasts"][0]["tables"]) <= set(found["tables"])
    assert "not tested here" in capsys.readouterr().out


def test_the_same_tables_give_the_same_file(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "one.json")
    run(folder, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


# ------------------------------------------------------------------------------------------------
# claims.yaml
# ------------------------------------------------------------------------------------------------


def test_every_claim_of_the_specification_is_there_and_names_known_models() -> None:
    file, quick = load_claims(CLAIMS), load_study(ROOT / "config" / "quick.yaml")
    assert {f"C{number}" for number in range(1, 33)} <= set(file.claims)
    for claim in file.claims.values():
        for contrast in (*claim.contrasts, *claim.needs, *claim.beside):
            for term in (*contrast.more, *contrast.less):
                name = re.sub(":(largest|middle|smallest)$|_untrained$", "", term.model)
                assert name in {"cl", "mim", *quick.models}, f"{claim.statement}: {term.model}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("strength: strong", "strength: huge"), r"claims\.C1\.strength"),
        (("figure: fig1", "figur: fig1"), r"claims\.C1\.figur: unknown key; did you mean 'figure'"),
        (("  C1:", "  claim1:"), "claim1"),
        (("heads: [mean, median", "heads: [median"), "first choices must be those of the verdict"),
        (("both, more: {model: mim}", "both, more: {model: mim, depths: [0.0, 0.5]}"), "same depths"),
        (("  least_seeds: 3", "  least_seed: 3"), r"rule\.least_seed: unknown key; did you mean 'least_seeds'"),
        (("heads: [mean, median, max, min]", "heads: []"), "first choices must be those of the verdict"),
    ],
)
def test_a_faulty_claim_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = CLAIMS.read_text(encoding="utf-8")
    assert change[0] in text
    path = tmp_path / "claims.yaml"
    path.write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_claims(path)


def test_the_example_of_the_documentation_is_valid() -> None:
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    (claim,) = yaml.safe_load(text.split("```yaml\n", 1)[1].split("```", 1)[0]).values()
    assert Claim.model_validate(claim).contrasts[0].margin == -0.05


def test_the_documentation_says_what_the_rule_is() -> None:
    rule, text = load_claims(CLAIMS).rule, (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    words = {3: "three", 5: "five", 0.25: "a quarter"}
    assert f"{words[rule.smallest_share]} of the published value (`rule.smallest_share`)" in text
    assert f"fewer than {words[rule.least_seeds]} seeds of some encoder" in text
    assert f"fewer than {words[rule.least_control_seeds]} of an untrained one" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrasts": []}, "give either contrasts, or not_tested"),
        ({"any_group": True}, "any_group and the groups"),
        ({"control": None}, "say how the untrained encoders enter"),
        ({"contrasts": [late(smallest=None).model_dump()]}, "say which effect is the smallest that matters"),
        ({"contrasts": [ATTENTION | {"more": {"model": "cl"}, "less": {"model": "cl"}}]}, "always 0"),
        ({"contrasts": [ATTENTION | {"more": {"model": "cl"}, "every": "both"}]}, "one term with one other"),
        ({"contrasts": [late(smallest=SMALL).model_dump() | {"every": "alone"}]}, "alone asks one term"),
    ],
)
def test_a_claim_that_says_nothing_is_refused(changes: dict, message: str) -> None:
    valid = {"statement": "x", "figure": "fig4", "strength": "weak", "contrasts": [late().model_dump()]} | {
        "control": EXCEED
    }
    with pytest.raises(ValueError, match=message):
        Claim.model_validate(valid | changes)
