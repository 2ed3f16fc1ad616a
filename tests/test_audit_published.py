"""A perfect replication at the paper's own scale is called supported as often as the page says, and nothing is not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from audit_published import PAPER, REFERENCE, ROOT, exactly, study, tables
from cl_vs_mim.audit import pitfalls
from cl_vs_mim.audit.claims import ClaimFile, load_claims
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.measure import measure
from cl_vs_mim.audit.rates import as_markdown
from cl_vs_mim.audit.replication import NOT_MEASURED, PublishedTables, support
from cl_vs_mim.audit.simulate import allowed
from cl_vs_mim.audit.simulate import table as simulated
from cl_vs_mim.audit.verdict import CONTRADICTED, EQUIVALENT, NOT_TESTED, ON_THESE, SUPPORTED, Verdict

PAGE = ROOT / "docs" / "audit_rates.md"
STUDY = study()


@pytest.fixture(scope="module")
def file() -> ClaimFile:
    return load_claims(ROOT / "config" / "claims.yaml")


def verdicts(file: ClaimFile, tables: PublishedTables) -> dict[str, tuple[str, str]]:
    audit = Audit(file, tables, REFERENCE)
    judged = {number: audit.judge_claim(claim)[0] for number, claim in file.claims.items()}
    return {number: (one.verdict, one.reason) for number, one in judged.items()}


def test_what_the_paper_finds_is_supported_where_noise_leaves_its_means_alone(file: ClaimFile) -> None:
    """Ten seeds whose mean is the published value itself; how often others find it, the page of rates says."""
    asked = {number for number, claim in file.claims.items() if claim.contrasts} - NOT_MEASURED
    said = verdicts(file, exactly(study(10), 0))
    assert {number: said[number] for number in asked if said[number][0] != SUPPORTED} == {}
    assert all(said[number][0] == NOT_TESTED for number in said.keys() - asked - NOT_MEASURED)


DRAWS = 60


@pytest.fixture(scope="module")
def redrawn(file: ClaimFile) -> pd.DataFrame:
    """Rates of other draws than those of the page, with the fewest seeds of it."""
    asked = file.simulation
    return support(file, PAPER, REFERENCE, asked.published_seeds[:1], DRAWS, first=asked.published_draws)


def _rates(page: str) -> dict[str, list[float]]:
    """Percent of every claim: supported and contradicted, for each number of seeds."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| C")]
    return {row[0]: [float(cell.removesuffix(" %")) for cell in row[1:]] for row in rows}


def test_the_page_says_how_often_a_perfect_replication_is_supported(file: ClaimFile, redrawn: pd.DataFrame) -> None:
    stated, draws = _rates(PAGE.read_text(encoding="utf-8")), file.simulation.published_draws
    assert stated.keys() == set(redrawn["claim"])
    for row in redrawn.itertuples():
        for place, ours in enumerate((row.supported, row.contradicted)):
            theirs = stated[row.claim][place] / 100
            both = (ours * DRAWS + theirs * draws) / (DRAWS + draws)
            error = (both * (1 - both) * (1 / DRAWS + 1 / draws)) ** 0.5
            assert abs(ours - theirs) <= 4 * error + 0.0005, f"{row.claim}: {ours} here, {theirs} on the page"


def test_the_first_draws_of_the_page_are_these(file: ClaimFile) -> None:
    """The same draws give the same verdicts, but for what an ulp may move over an edge."""
    asked = file.simulation
    few = {key: file.claims[key] for key in ("C2", "C30")}
    found = support(
        file.model_copy(update={"claims": few}), PAPER, REFERENCE, asked.published_seeds[:1], asked.published_draws
    )
    stated = _rates(PAGE.read_text(encoding="utf-8"))
    for row in found.itertuples():
        assert 100 * row.supported == pytest.approx(stated[row.claim][0], abs=100 / asked.published_draws + 0.05)


def test_a_perfect_replication_is_contradicted_no_oftener_than_the_level_says(redrawn: pd.DataFrame) -> None:
    assert redrawn["contradicted"].max() <= allowed(0.025, DRAWS)
    stated = _rates(PAGE.read_text(encoding="utf-8"))
    assert max(max(row[1::2]) for row in stated.values()) <= 2.5


def test_the_promise_of_the_page_follows_from_its_rows(file: ClaimFile, rates_of_page: pd.DataFrame) -> None:
    """With the most seeds every claim of the paper is found in nine of ten studies; the sentences are the table's."""
    text = PAGE.read_text(encoding="utf-8")
    most = max(file.simulation.published_seeds)
    assert rates_of_page[rates_of_page["seeds"] == most]["supported"].min() >= 0.9
    for line in as_markdown(_any_rates(), rates_of_page, 0.95).splitlines():
        if line.startswith("- With"):
            assert line in text


@pytest.fixture(scope="module")
def rates_of_page(file: ClaimFile) -> pd.DataFrame:
    stated, asked = _rates(PAGE.read_text(encoding="utf-8")), file.simulation
    rows = [
        (claim, count, cells[2 * place] / 100, cells[2 * place + 1] / 100, asked.published_draws)
        for claim, cells in stated.items()
        for place, count in enumerate(asked.published_seeds)
    ]
    return pd.DataFrame(rows, columns=["claim", "seeds", "supported", "contradicted", "draws"])


def _any_rates() -> pd.DataFrame:
    return simulated((2,), (0.0, 1.0, 3.0), 10, seed=0, kinds=["one contrast"])


def test_published_values_are_those_of_the_reference(file: ClaimFile) -> None:
    """What a claim states as published is what the recovered values give, put through its own contrast."""
    found, compared = exactly(STUDY, 0), 0
    for number, claim in file.claims.items():
        for contrast in claim.contrasts:
            if contrast.published is None:
                continue
            plain = contrast.model_copy(update={"more": _plain(contrast.more), "less": _plain(contrast.less)})
            value = measure(found, plain, "none").interval(0.95).value
            assert contrast.published == pytest.approx(value, rel=0.01, abs=0.0006), f"{number}: {contrast.name}"
            compared += 1
    assert compared > 40


def _plain(terms):
    """The lowest published value, where the contrast chooses a depth: MoCo v3 has it at block 4."""
    return [
        one.model_copy(update={"over": "mean", "depths": (0.25, 0.3)}) if one.over == "min" else one for one in terms
    ]


@pytest.mark.slow
def test_a_planted_null_comes_out_at_its_rate(file: ClaimFile) -> None:
    """All encoders alike, trained or not: no claim is supported or contradicted oftener than the level says.

    Claims with a margin other than 0 are left out: alike encoders may lie on either side of it.
    """
    rounds, few = 100, study(3)
    nothing = {
        number: claim
        for number, claim in file.claims.items()
        if claim.contrasts and not any(one.margin for one in claim.contrasts) and number not in NOT_MEASURED
    }
    counted: dict[str, Counter] = {SUPPORTED: Counter(), CONTRADICTED: Counter(), EQUIVALENT: Counter()}
    for seed in range(rounds):
        audit = Audit(file, tables(few, seed, nothing="everywhere"), REFERENCE)
        for number, claim in nothing.items():
            bare = claim.model_copy(update={"needs": []})  # which do not hold where nothing was learned
            kind = audit.judge_claim(bare)[0].kind
            if kind in counted:
                counted[kind][number] += 1
    for kind in (SUPPORTED, CONTRADICTED):
        worst = {number: count / rounds for number, count in counted[kind].items()}
        assert max(worst.values(), default=0) <= allowed(0.025, rounds), (kind, worst)
        together = sum(counted[kind].values()) / rounds / len(nothing)
        assert together <= 0.025, (kind, together)


@pytest.mark.slow
def test_architectures_that_differ_untrained_support_nothing_where_training_does_nothing(file: ClaimFile) -> None:
    """Each encoder is as its own untrained one, and the two architectures lie far apart.

    Claims into which no untrained encoder enters are left out; where it need only be another, either side counts.
    """
    rounds, few = 60, study(3)
    asked = {
        number: claim
        for number, claim in file.claims.items()
        if claim.contrasts
        and number not in NOT_MEASURED
        and any(claim.enters(one) != "none" for one in claim.contrasts)
    }
    counted: dict[str, Counter] = {SUPPORTED: Counter(), CONTRADICTED: Counter()}
    for seed in range(rounds):
        audit = Audit(file, tables(few, seed, nothing="training"), REFERENCE)
        for number, claim in asked.items():
            kind = audit.judge_claim(claim)[0].kind
            if kind in counted:
                counted[kind][number] += 1
    for kind, found in counted.items():
        worst = {number: count / rounds for number, count in found.items()}
        assert max(worst.values(), default=0) <= allowed(0.05, rounds), (kind, worst)
        assert sum(found.values()) / rounds / len(asked) <= 0.025, (kind, worst)


# ------------------------------------------------------------------------------------------------
# Claims that were corrected
# ------------------------------------------------------------------------------------------------


def found(file: ClaimFile, number: str, instead: dict) -> Verdict:
    return Audit(file, exactly(STUDY, 0, instead=instead), REFERENCE).judge_claim(file.claims[number])[0]


def test_similarity_that_does_not_rise_need_not_fall(file: ClaimFile) -> None:
    flat = {("simmim", "token_similarity_heads"): np.full(12, 0.3)}
    rising = {("simmim", "token_similarity_heads"): np.linspace(0.1, 0.4, 12)}
    assert found(file, "C13", flat).verdict == SUPPORTED
    assert found(file, "C13", rising).verdict == CONTRADICTED


def test_a_probe_that_is_best_at_the_end_or_the_beginning_has_no_peak(file: ClaimFile) -> None:
    for means in (np.linspace(0.1, 0.6, 13), np.linspace(0.6, 0.1, 13)):
        assert found(file, "C24", {("simmim", "linear_probe"): means}).verdict == CONTRADICTED


def test_every_block_is_asked_of_a_probe_and_the_embedding_is_not(file: ClaimFile) -> None:
    """Tables of probes begin with the embedding: of 12 blocks, 1 to 7 are early and 8 to 12 late."""
    found = exactly(STUDY, 0)
    for number, contrast, blocks in (
        *(("C23", 0, range(1, 8)), ("C23", 1, range(8, 13)), ("C25", 0, range(8, 13)), ("C25", 1, range(1, 8))),
        *(("C24", 1, range(7)), ("C24", 2, range(9, 13)), ("C24", 3, range(2, 13))),
    ):
        depths = measure(found, file.claims[number].contrasts[contrast], "none").depths
        assert depths == tuple(map(str, blocks)), f"{number}: {contrast}"


def test_one_block_of_a_late_window_is_enough_to_break_it(file: ClaimFile) -> None:
    """C7 and C9 speak of every late layer; the mean of them would hide one in which it is the other way round."""
    nmi = np.array([0.3] * 8 + [0.005] + [0.4] * 3)
    near = np.array([0.9] * 6 + [0.6, 0.6, 0.999, 0.5, 0.5, 0.5])
    for number, metric, means in (("C9", "nmi", nmi), ("C7", "attention_distance", near)):
        said = found(file, number, {("simmim", metric): means})
        assert said.verdict == CONTRADICTED and "(depth 9)" in said.reason, said
        whole = file.claims[number].contrasts[0]
        mean = measure(
            exactly(STUDY, 0, instead={("simmim", metric): means}), whole.model_copy(update={"every": None}), "none"
        )
        assert mean.effect.below(0.0) == 1, "the mean says nothing of it"


def test_a_fall_between_two_blocks_contradicts_a_rise_from_each_to_the_next(file: ClaimFile) -> None:
    means = np.linspace(0.05, 0.72, 13)
    means[6] = means[5] - 0.05
    said = found(file, "C24", {("moco_v3", "linear_probe"): means})
    assert said.verdict == CONTRADICTED and "each block over the one before it (depth 6)" in said.reason


def test_a_mixture_that_gains_next_to_nothing_is_not_the_one(file: ClaimFile) -> None:
    """λ 0.4 gains 0.0005 in fine-tuning: a quarter of that is no effect that matters."""
    only = {("hybrid_02", "finetuning"): np.array([0.80])}
    assert found(file, "C28", only).verdict != SUPPORTED
    tuned = [one for one in file.claims["C28"].contrasts if one.table == "finetuning"]
    assert len({one.smallest_effect(file.rule.smallest_share) for one in tuned}) == 1


def test_hybrids_that_change_no_token_are_not_asked(file: ClaimFile) -> None:
    still = {(f"hybrid_{key}", "depth_similarity_blocks"): np.full(12, 0.99999) for key in ("02", "04", "06", "08")}
    for number in ("C28", "C29", "C30", "C31", "C32"):
        said = found(file, number, still)
        assert said.verdict == NOT_TESTED and "tokens change from block to block" in said.reason
    in_one = np.array([0.9] * 6 + [0.99999] + [0.9] * 5)  # the mean over depths would not show it
    said = found(file, "C31", {("hybrid_02", "depth_similarity_blocks"): in_one})
    assert said.verdict == NOT_TESTED and "tokens change from block to block in λ 0.2" in said.reason
    barely = {("hybrid_02", "depth_similarity_blocks"): np.array([0.9] * 11 + [0.9993])}  # some seeds lie above 0.999
    assert found(file, "C31", barely).verdict == NOT_TESTED
    alone = {key: means for key, means in still.items() if key[0] != "hybrid_02"}
    assert found(file, "C28", alone).kind == SUPPORTED, "one mixture is enough, and the others are left out"


def test_any_mixture_may_be_the_one(file: ClaimFile) -> None:
    swapped = {
        ("hybrid_02", "finetuning"): np.array([0.80]),
        ("hybrid_08", "finetuning"): np.array([0.83]),
        ("hybrid_08", "augmented_probe"): np.array([0.63]),
    }
    said = found(file, "C28", swapped)
    assert said.verdict == SUPPORTED and "every contrast" in said.reason


def test_shapes_are_asked_of_images_whose_surface_has_a_category(file: ClaimFile) -> None:
    for contrast in (*file.claims["C21"].contrasts, *file.claims["C21"].needs):
        assert contrast.where["material"] == ""
    assert pitfalls.NUMBERS["shape"][0]["where"] == {"material": ""}


def test_the_collection_of_others_is_no_class(file: ClaimFile) -> None:
    assert {one.name: one.without for one in file.claims["C18"].contrasts} == {
        "same image": {},
        "same class": {"group": "other"},
    }


def test_what_training_need_only_change_is_said_beside_the_verdict(file: ClaimFile) -> None:
    said = Audit(file, exactly(STUDY, 0), REFERENCE).judge_claim(file.claims["C19"])[0]
    assert said.verdict == SUPPORTED and "the architectures differ untrained by " in said.reason
    said = Audit(file, exactly(STUDY, 0), REFERENCE).judge_claim(file.claims["C7"])[0]
    assert "untrained 0.999 (MoCo v3, last, at least 0.957 of uniform)" in said.reason


def test_one_random_initialisation_limits_what_needs_it(file: ClaimFile) -> None:
    few = STUDY.model_copy(update={"analysis": STUDY.analysis.model_copy(update={"control_seeds": [0]})})
    for number in ("C21", "C22"):
        verdict, measured = Audit(file, exactly(few, 0), REFERENCE).judge_claim(file.claims[number])
        assert verdict.verdict == SUPPORTED + ON_THESE and all(one.control_seeds is None for one in measured)
