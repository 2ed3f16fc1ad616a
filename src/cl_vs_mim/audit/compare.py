"""Several studies side by side: is the sign of an effect the same, and does it grow with the scale of the study."""

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
    grows: bool | None  # whether it is larger in every larger study; None: no two studies of different scale


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
    steps = [
        larger > smaller
        for place, (scale, smaller) in enumerate(known)
        for other, larger in known[place + 1 :]
        if other > scale
    ]
    return Row(claim, name, effects, same, all(steps) if steps else None)
