"""Several studies side by side: is the sign of an effect the same, and does it grow with the scale of the study.

Growth is the effect of the largest study minus that of the smallest, which are independent of one another. Its interval
comes from theirs, which need not be symmetric (the method of variance estimates recovery: Zou and Donner 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cl_vs_mim.audit.result import ClaimRecord, ContrastRecord, Report


@dataclass(frozen=True)
class Row:
    """One contrast of one claim in all studies that measured it."""

    claim: str
    contrast: str
    effects: list[float | None]  # beyond the margin, in the order of the studies; None: not measured
    same_sign: bool | None  # None: fewer than two studies measured it
    growth: tuple[float, float, float] | None  # largest study minus smallest, with its ends; None: no two scales
    answer: str  # grows, falls or open, by the interval; empty where there is none


def by_scale(reports: Sequence[Report]) -> list[Report]:
    """From the smallest encoders to the largest."""
    return sorted(reports, key=lambda one: (one.scale, one.study))


def rows(reports: Sequence[Report]) -> list[Row]:
    """Every contrast that any of the studies measured.

    Args:
        reports: audits, from the smallest study to the largest.
    """
    found = []
    for claim in dict.fromkeys(number for one in reports for number in one.claims):
        records = [one.claims.get(claim) for one in reports]
        for name in dict.fromkeys(each.name for one in records if one for each in one.contrasts):
            found.append(_row(claim, name, reports, [_contrast(one, name) for one in records]))
    return found


def _contrast(claim: ClaimRecord | None, name: str) -> ContrastRecord | None:
    return next((one for one in claim.contrasts if one.name == name), None) if claim else None


def _row(claim: str, name: str, reports: Sequence[Report], contrasts: Sequence[ContrastRecord | None]) -> Row:
    effects = [None if one is None else one.effect.value - one.margin for one in contrasts]
    known = [(report.scale, effect) for report, effect in zip(reports, effects, strict=True) if effect is not None]
    same = len({effect > 0 for _, effect in known}) == 1 if len(known) > 1 else None
    growth = _growth(list(zip(reports, contrasts, strict=True)))
    answer = "" if growth is None else "grows" if growth[1] > 0 else "falls" if growth[2] < 0 else "open"
    return Row(claim, name, effects, same, growth, answer)


def _growth(measured: Sequence[tuple[Report, ContrastRecord | None]]) -> tuple[float, float, float] | None:
    """From the smallest study that has an interval to the largest one."""
    known = [
        (
            report.scale,
            one.effect.value - one.margin,
            one.effect.value - one.effect.low,
            one.effect.high - one.effect.value,
        )
        for report, one in measured
        if one is not None and one.effect.low is not None and one.effect.high is not None
    ]
    if not known or known[0][0] == known[-1][0]:
        return None
    (_, small, small_below, small_above), (_, large, large_below, large_above) = known[0], known[-1]
    value = large - small
    return value, value - (large_below**2 + small_above**2) ** 0.5, value + (large_above**2 + small_below**2) ** 0.5
