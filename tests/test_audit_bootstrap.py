"""Intervals that cover, rates of error that hold, and verdicts by the written rule, on tables whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cl_vs_mim.audit.bootstrap import Effect, Resampling, holm, means, summarise
from cl_vs_mim.audit.judge import p_value
from cl_vs_mim.audit.measure import Measured
from cl_vs_mim.audit.series import Series
from cl_vs_mim.audit.verdict import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, ON_THIS_PAIR, SUPPORTED, Verdict, judge
from cl_vs_mim.core.intervals import normal_error

TRUTH = 0.3


def series(name: str, values: np.ndarray, errors: np.ndarray | None = None) -> Series:
    """From values (seeds, images, depths)."""
    images = tuple(f"val/{number}" for number in range(values.shape[1])) if values.shape[1] > 1 else ()
    return Series(name, np.arange(values.shape[2]), values, images, errors, (Path("kind/table"),))


def simulated(rng: np.random.Generator, seeds: int, images: int, mean: float, shared: np.ndarray) -> np.ndarray:
    """(seeds, images, 1): trainings that differ, images that differ in the same way for all encoders, and noise."""
    training = rng.normal(0, 0.3, (seeds, 1, 1))
    return mean + training + shared + rng.normal(0, 0.5, (seeds, images, 1))


def difference(one: np.ndarray, other: np.ndarray, resamples: int = 200, seed: int = 0) -> Effect:
    """Mean of the first minus mean of the second, both (seeds, images, 1)."""
    pair = series("a", one), series("b", other)
    resampling = Resampling(resamples, seed)
    first, second = (resampling.draws(member)[:, 0] for member in pair)
    value = means(pair[0])[0] - means(pair[1])[0]
    return summarise(value, first - second, margin=0, level=0.95)


# ------------------------------------------------------------------------------------------------
# Bootstrap
# ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(8, 0.9), (3, 0.8)])
def test_the_interval_covers_the_truth(seeds: int, least: float) -> None:
    """With 8 seeds about as often as it says; with 3 a percentile bootstrap is too narrow, which the docs say."""
    rng, covered, rounds = np.random.default_rng(seeds), 0, 300
    for number in range(rounds):
        shared = rng.normal(0, 2, (1, 60, 1))
        one, other = (simulated(rng, seeds, 60, mean, shared) for mean in (TRUTH, 0.0))
        found = difference(one, other, seed=number)
        covered += found.low <= TRUTH <= found.high
    assert least <= covered / rounds <= 0.99


@pytest.mark.slow
def test_a_claim_that_is_false_is_rarely_supported() -> None:
    """With no difference, at most about 2.5 % of the intervals lie above it (and with few seeds somewhat more)."""
    rng, supported, contradicted, rounds = np.random.default_rng(5), 0, 0, 300
    for number in range(rounds):
        shared = rng.normal(0, 2, (1, 40, 1))
        one, other = (simulated(rng, 8, 40, 0.0, shared) for _ in range(2))
        verdict = judge([Measured("x", 0, difference(one, other, seed=number), None, 8, 40)], True, control=False)
        supported += verdict.verdict == SUPPORTED
        contradicted += verdict.verdict == CONTRADICTED
    assert supported / rounds < 0.06 and contradicted / rounds < 0.06


def test_images_are_paired() -> None:
    """What all encoders share of an image does not widen the interval."""
    rng = np.random.default_rng(0)
    one, other = (rng.normal(0, 0.1, (1, 50, 1)) for _ in range(2))
    shared = rng.normal(0, 50, (1, 50, 1))
    alone, together = difference(one, other), difference(one + shared, other + shared)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=1e-6)


def test_other_images_are_not_paired() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 50, (1, 50, 1))
    moved = series("a", shared)
    renamed = Series("b", moved.depths, shared, tuple(f"other/{n}" for n in range(50)), None, moved.paths)
    resampling = Resampling(200, 0)
    assert np.ptp(resampling.draws(moved) - resampling.draws(series("b", shared))) < 1e-9
    assert np.ptp(resampling.draws(moved) - resampling.draws(renamed)) > 10


def test_seeds_widen_the_interval_of_one_image_set() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.normal(0, 0.01, (4, 30, 1)) for _ in range(2))
    narrow, wide = difference(one, other), difference(one + np.array([-1, 1, -1, 1]).reshape(4, 1, 1), other)
    assert wide.high - wide.low > 20 * (narrow.high - narrow.low)


def test_few_seeds_spread_their_mean_as_they_should() -> None:
    """The variance of the mean of S values is s^2 / S with the unbiased s, not the smaller one of plain resampling."""
    values = np.array([0.0, 1.0, 5.0]).reshape(3, 1, 1)
    drawn = Resampling(20000, 0).draws(series("a", values))[:, 0]
    assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(3), rel=0.03)
    assert drawn.mean() == pytest.approx(2, abs=0.05)


def test_images_that_do_not_count_are_left_out() -> None:
    values = np.array([1.0, 0.0, np.nan, np.nan, 1.0, 1.0]).reshape(1, 6, 1)
    one = series("a", values)
    assert means(one)[0] == 0.75
    assert np.nanmean(Resampling(4000, 0).draws(one)) == pytest.approx(0.75, abs=0.02)


def test_intervals_of_a_table_are_carried_along() -> None:
    error = normal_error(np.array([0.0]), np.array([2 * 1.959964]), 0.95)
    assert error[0] == pytest.approx(1, abs=1e-4)
    drawn = Resampling(20000, 0).draws(series("a", np.full((1, 1, 1), 5.0), errors=error[None]))
    assert drawn.std() == pytest.approx(1, rel=0.03) and drawn.mean() == pytest.approx(5, abs=0.03)


def test_what_does_not_vary_has_no_interval() -> None:
    found = difference(np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 1.0))
    assert (found.value, found.low, found.high, found.p_value) == (1.0, None, None, 1.0)


def test_ties_are_ties_whatever_the_last_digits_are() -> None:
    """Answers right or wrong give many resamples on the margin itself; rounding must not push them off it."""
    draws = np.array([0.0, 0.0, 0.1, -0.1] * 50)
    exact, shaken = (summarise(0.0, one, margin=0, level=0.95) for one in (draws, draws + 1e-16))
    assert exact == shaken and exact.p_value == 1.0
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 2, (1, 40, 1)).astype(float)
    other = series("a", answers + rng.normal(0, 1e-16, answers.shape))
    np.testing.assert_array_equal(Resampling(300, 0).draws(series("a", answers)), Resampling(300, 0).draws(other))


def test_two_images_are_the_least() -> None:
    with pytest.raises(ValueError, match="two images or more"):
        Resampling(5, 0).draws(Series("a", np.arange(1), np.zeros((1, 1, 1)), ("val/0",), None, (Path("x"),)))


def test_holm_steps_down() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a": 0.03, "b": 0.06, "c": 0.06}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


# ------------------------------------------------------------------------------------------------
# Verdicts
# ------------------------------------------------------------------------------------------------


def effect(low: float | None, high: float | None, p: float = 0.01) -> Effect:
    return Effect(0.5 if low is None else (low + high) / 2, low, high, p, 0.1, None)


def contrast(low, high, control=(1, 2), seeds: int = 3, group: str = "", p: float = 0.01) -> Measured:
    beyond = None if control is None else effect(*control)
    return Measured("x", 0.5, effect(low, high, p), beyond, seeds, 10, group)


@pytest.mark.parametrize(
    ("contrasts", "about_training", "control", "expected"),
    [
        ([contrast(0.6, 1)], True, True, SUPPORTED),
        ([contrast(0.4, 1)], True, True, INCONCLUSIVE),
        ([contrast(0.1, 0.4)], True, True, CONTRADICTED),
        ([contrast(0.6, 1), contrast(0.1, 0.4)], True, True, CONTRADICTED),
        ([contrast(0.6, 1), contrast(0.4, 0.6)], True, True, INCONCLUSIVE),
        ([contrast(0.6, 1, control=(-0.1, 2))], True, True, INCONCLUSIVE),
        ([contrast(0.6, 1, control=(None, None))], True, True, INCONCLUSIVE),
        ([contrast(0.6, 1, control=None)], True, True, INCONCLUSIVE),
        ([contrast(0.6, 1, control=None)], True, False, SUPPORTED),
        ([contrast(0.6, 1, control=None)], False, True, SUPPORTED),
        ([contrast(None, None)], True, True, INCONCLUSIVE),
        ([contrast(0.6, 1, seeds=1)], True, True, SUPPORTED + ON_THIS_PAIR),
        ([contrast(0.1, 0.4, seeds=1)], True, True, CONTRADICTED + ON_THIS_PAIR),
        ([contrast(0.6, 1, None, seeds=1)], True, False, SUPPORTED + ON_THIS_PAIR),
        ([contrast(0.6, 1, None, seeds=1)], False, True, SUPPORTED),
    ],
)
def test_the_written_rule(contrasts, about_training: bool, control: bool, expected: str) -> None:
    assert judge(contrasts, about_training, control=control).verdict == expected


@pytest.mark.parametrize(
    ("of_a", "of_b", "expected", "reason"),
    [
        ((0.6, 1), (0.1, 0.4), SUPPORTED, "it holds for a"),
        ((0.4, 1), (0.1, 0.4), INCONCLUSIVE, "it is open for a"),
        ((0.1, 0.2), (0.1, 0.4), CONTRADICTED, "it holds for none of a, b"),
    ],
)
def test_one_group_is_enough(of_a, of_b, expected: str, reason: str) -> None:
    found = judge([contrast(*of_a, group="a"), contrast(*of_b, group="b")], True, any_group=True)
    assert (found.verdict, found.reason) == (expected, reason)


def test_the_p_value_of_a_claim_is_that_of_its_verdict() -> None:
    both = [contrast(0.6, 1, p=0.01), contrast(0.6, 1, p=0.03)]
    assert p_value(both, Verdict(SUPPORTED, ""), False) == 0.03, "no surer than the weakest part"
    unsure = Measured("x", 0.5, effect(0.6, 1, 0.01), effect(0.1, 1, 0.04), 3, 10)
    assert p_value([unsure], Verdict(SUPPORTED, ""), False) == 0.04, "the untrained encoders are a part of it"
    opposite = Measured("x", 0.5, effect(0.6, 1, 0.01), effect(-2, -1, 0.01), 3, 10)
    assert p_value([opposite], Verdict(INCONCLUSIVE, ""), False) == 1, "the wrong side is no evidence, however sure"
    broken = [contrast(0.6, 1, p=0.2), contrast(0.1, 0.4, p=0.01)]
    assert p_value(broken, Verdict(CONTRADICTED + ON_THIS_PAIR, ""), False) == 0.02, (
        "one of two is enough, and paid for"
    )
    groups = [contrast(0.6, 1, group="a", p=0.01), contrast(0.6, 1, group="b", p=0.2)]
    assert p_value(groups, Verdict(SUPPORTED, ""), True) == 0.02


def test_verdicts_know_their_kind() -> None:
    assert Verdict(SUPPORTED + ON_THIS_PAIR, "").kind == SUPPORTED
    assert Verdict(NOT_TESTED, "").kind == NOT_TESTED
