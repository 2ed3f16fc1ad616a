"""Verdicts by the written rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from cl_vs_mim.audit.bootstrap import holm
from cl_vs_mim.audit.claims import Rule
from cl_vs_mim.audit.estimate import Estimate
from cl_vs_mim.audit.evidence import Evidence, Untrained, all_of, any_of, of_contrast
from cl_vs_mim.audit.measure import Measured
from cl_vs_mim.audit.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_TESTED,
    ON_THESE,
    SUPPORTED,
    Verdict,
    judge,
)

THREE = Rule(version=1, date=date(2026, 1, 1))
MARGIN, SMALLEST = 0.5, 0.1


def known(*intervals: tuple[float, float]) -> Estimate:
    """With these 95 % intervals, as of many seeds."""
    ends = np.array(intervals)
    error = (ends[:, 1] - ends[:, 0]) / (2 * 1.959964)
    return Estimate(ends.mean(axis=1), error, np.full(len(ends), 1e7), np.full(len(ends), np.nan))


def contrast(
    *intervals: tuple[float, float], beyond=None, own=None, either_way=False, seeds=3, controls=None, group=""
):
    """A contrast with a margin of 0.5 and a smallest effect of 0.1 beyond it."""
    untrained = Untrained(None if beyond is None else known(*beyond), None if own is None else known(*own), either_way)
    enters = "none" if beyond is own is None else "exceed" if beyond else "differ" if either_way else "beat"
    controls = 5 if controls is None and enters != "none" else controls
    names = tuple(f"{place}" for place in range(len(intervals))) if len(intervals) > 1 else ("",)
    encoders = tuple("abc"[: len(own)]) if own else ()
    effect = known(*intervals)
    return Measured("x", MARGIN, effect, untrained, enters, seeds, controls, 10, SMALLEST, group, names, encoders)


@pytest.mark.parametrize(
    ("contrasts", "expected", "reason"),
    [
        ([contrast((0.6, 1))], SUPPORTED, "by an effect that matters"),
        ([contrast((0.4, 1))], INCONCLUSIVE, "the interval includes the margin"),
        ([contrast((0.51, 0.62))], INCONCLUSIVE, "above its margin, but by less than matters"),
        ([contrast((0.45, 0.55))], EQUIVALENT, "within the smallest effect"),
        ([contrast((0.51, 0.59))], EQUIVALENT, "within the smallest effect"),
        ([contrast((0.0, 0.39))], CONTRADICTED, "below the margin"),
        ([contrast((0.38, 0.49))], INCONCLUSIVE, "below its margin, but by less than matters"),
        ([contrast((0.6, 1)), contrast((0.0, 0.3))], CONTRADICTED, "below the margin"),
        ([contrast((0.6, 1)), contrast((-0.5, 0.48))], INCONCLUSIVE, "not surely so after correction"),
        ([contrast((0.6, 1)), contrast((0.4, 0.9))], INCONCLUSIVE, "includes the margin"),
        ([contrast((0.6, 1), beyond=[(0.1, 2)])], SUPPORTED, "every contrast"),
        ([contrast((0.6, 1), beyond=[(-0.1, 2)])], INCONCLUSIVE, "no more than the untrained encoders"),
        ([contrast((0.0, 0.3), beyond=[(-0.1, 2)])], INCONCLUSIVE, "so are the untrained encoders"),
        ([contrast((0.6, 1), beyond=[(0.01, 0.15)])], INCONCLUSIVE, "beyond the untrained encoders, but by less"),
        ([contrast((0.0, 0.3), beyond=[(-0.15, -0.01)])], INCONCLUSIVE, "below the untrained encoders by less"),
        ([contrast((0.0, 0.3), beyond=[(-2, -1)])], CONTRADICTED, "below the margin"),
        ([contrast((0.6, 1), own=[(0.1, 1), (0.2, 1)])], SUPPORTED, "every contrast"),
        ([contrast((0.6, 1), own=[(0.1, 1), (-0.2, 1)])], INCONCLUSIVE, "b is not surely above its own untrained"),
        ([contrast((0.6, 1), own=[(0.1, 1), (-2, -1)])], INCONCLUSIVE, "b is not surely above"),
        ([contrast((0.6, 1), own=[(0.1, 1), (-2, -1)], either_way=True)], SUPPORTED, "every contrast"),
        ([contrast((0.6, 1), own=[(-0.1, 1), (1, 2)], either_way=True)], INCONCLUSIVE, "a is not surely different"),
        ([contrast((0.0, 0.3), own=[(-0.1, 1)])], INCONCLUSIVE, "not surely beyond its own"),
        ([contrast((0.7, 0.7))], INCONCLUSIVE, "nothing varies"),
        ([contrast((0.6, 1), (0.7, 1.2))], SUPPORTED, "every contrast"),
        ([contrast((0.6, 1), (0.4, 1.2))], INCONCLUSIVE, "x (depth 1): the interval includes"),
        ([contrast((0.6, 1), (0.0, 0.3))], CONTRADICTED, "x (depth 1)"),
        ([contrast((0.6, 1), (-0.5, 0.48))], INCONCLUSIVE, "includes the margin"),
    ],
)
def test_the_written_rule(contrasts, expected: str, reason: str) -> None:
    found = judge(contrasts, THREE, 0.95)
    assert found.verdict == expected and reason in found.reason


def named(name: str, *intervals: tuple[float, float], **options) -> Measured:
    return replace(contrast(*intervals, **options), name=name)


def test_the_reason_and_what_is_shown_are_of_one_contrast() -> None:
    """Of several, the one on which the verdict hangs, whatever else lies nearer to its margin."""
    far_but_untrained = named("far", (0.6, 1), own=[(-0.1, 1)])
    near = named("near", (0.59, 0.63), own=[(1, 2)])
    said = judge([near, far_but_untrained], THREE, 0.95)
    assert (said.verdict, said.decided_by) == (INCONCLUSIVE, "far") and said.reason.startswith("far: ")
    grouped = [replace(near, group="g"), replace(far_but_untrained, group="h")]
    said = judge(grouped, THREE, 0.95, groups=2)
    assert (said.verdict, said.decided_by) == (SUPPORTED, "near")
    said = judge([named("a", (0.7, 1)), named("b", (0.6, 1))], THREE, 0.95)
    assert (said.verdict, said.decided_by) == (SUPPORTED, "b")


@pytest.mark.parametrize(("at", "expected"), [((0.45, 0.55), EQUIVALENT), ((0.0, 0.3), CONTRADICTED)])
def test_a_part_that_fails_is_said_to_be_a_part(at, expected) -> None:
    said = judge([named("a", (0.7, 1)), named("b", at), named("c", (0.4, 0.9))], THREE, 0.95)
    assert (said.verdict, said.decided_by) == (expected, "b")
    assert "said of this part, without which the whole does not hold: 1 of the other 2 hold" in said.reason
    assert "this part" not in judge([named("b", at)], THREE, 0.95).reason


@pytest.mark.parametrize(
    ("seeds", "controls", "limited"),
    [(3, 5, False), (2, 5, True), (1, 5, True), (3, 1, True), (3, 4, True), (6, 5, True)],
)
@pytest.mark.parametrize(
    ("at", "expected"), [((0.7, 1.0), SUPPORTED), ((0.0, 0.2), CONTRADICTED), ((0.47, 0.53), EQUIVALENT)]
)
def test_few_seeds_speak_of_these_encoders_whatever_is_said(seeds, controls, limited, at, expected) -> None:
    own = [(1, 2)]
    found = judge([contrast(at, own=own, seeds=seeds, controls=controls)], THREE, 0.95)
    assert found.verdict == expected + (ON_THESE if limited else "") and found.kind == expected
    unasked = judge([contrast((0.4, 1), own=own, seeds=seeds, controls=controls)], THREE, 0.95)
    assert unasked.verdict == INCONCLUSIVE


def test_what_is_needed_is_known_from_as_many_seeds() -> None:
    """C21 and C22 ask their untrained encoders in needs alone."""
    asked = [contrast((0.7, 1.0))]
    for need, limited in (({}, False), ({"seeds": 2}, True), ({"controls": 1}, True), ({"controls": 5}, False)):
        said = judge(asked, THREE, 0.95, needs=[contrast((0.7, 1.0), **need)]).verdict
        assert said == SUPPORTED + (ON_THESE if limited else "")


@pytest.mark.parametrize(
    ("of_a", "of_b", "expected", "reason"),
    [
        ((0.7, 1), (0.1, 0.2), SUPPORTED, "nearest is a"),
        ((0.51, 1.5), (0.1, 0.2), INCONCLUSIVE, "nearest is a: x: it holds, but not after correction"),
        ((0.4, 1), (0.1, 0.2), INCONCLUSIVE, "nearest is a: x: the interval includes the margin"),
        ((0.1, 0.2), (0.1, 0.3), CONTRADICTED, "below the margin"),
    ],
)
def test_one_group_is_enough(of_a, of_b, expected: str, reason: str) -> None:
    found = judge([contrast(of_a, group="a"), contrast(of_b, group="b")], THREE, 0.95, groups=2)
    assert found.verdict == expected and reason in found.reason


def test_a_group_that_was_not_measured_leaves_a_contradiction_open() -> None:
    assert judge([contrast((0.1, 0.2), group="a")], THREE, 0.95, groups=3).verdict == INCONCLUSIVE
    assert judge([contrast((0.9, 1.0), group="a")], THREE, 0.95, groups=3).verdict == SUPPORTED


def test_p_values_are_those_of_the_intervals() -> None:
    found = known((0.5, 1.0))
    assert found.above(0.5)[0] == pytest.approx(0.05, rel=1e-3) and found.below(1.0)[0] == pytest.approx(0.05, rel=1e-3)
    assert judge([contrast((0.6, 1)), contrast((0.55, 1))], THREE, 0.95).p_value == pytest.approx(
        known((0.55, 1)).above(0.5)[0]
    ), "no surer than the weakest part"
    broken = judge([contrast((0.6, 1)), contrast((0.0, 0.3))], THREE, 0.95)
    assert broken.p_value == pytest.approx(2 * known((0.0, 0.3)).below(0.5)[0]), "one of two is enough, and paid for"


def test_evidence_of_several_is_paid_for() -> None:
    one, other = (Evidence(*map(np.float64, p)) for p in ((0.01, 0.2, 0.3), (0.04, 0.001, 0.4)))
    both, either = all_of([one, other]), any_of([one, other])
    assert (both.support, both.contradiction, both.equivalence) == pytest.approx((0.04, 0.002, 0.6))
    assert (either.support, either.contradiction, either.equivalence) == pytest.approx((0.02, 0.2, 0.4))


def test_with_a_bound_for_margin_nothing_is_equivalent() -> None:
    assert of_contrast(known((0.4, 0.6)), 0.5, 0.0).equivalence == 1


def test_verdicts_know_their_kind() -> None:
    assert Verdict(SUPPORTED + ON_THESE, "").kind == SUPPORTED
    assert Verdict(NOT_TESTED, "").kind == NOT_TESTED


def test_holm_steps_down() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a": 0.03, "b": 0.06, "c": 0.06}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
