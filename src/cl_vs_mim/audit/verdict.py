"""From intervals to a verdict, by one written rule.

1. Tables or models are missing: *not tested here*, and why.
2. A claim is a conjunction of contrasts, each of which should exceed its margin. One whose whole interval lies below
   its margin contradicts the claim. All whose whole intervals lie above support it. Otherwise it is *inconclusive*.
3. A claim about what training does needs more: the contrast minus the same contrast of the two untrained
   architectures must exceed zero with its whole interval too; else it is *inconclusive*, because the architectures
   alone could make it.
4. One seed never gives *supported* for a claim about training: it is *supported on this pair of models*; and one seed
   never gives *contradicted* but *contradicted on this pair of models*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cl_vs_mim.audit.bootstrap import Effect

SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"
ON_THIS_PAIR = " on this pair of models"


@dataclass(frozen=True)
class Measured:
    """One contrast of a claim."""

    name: str
    margin: float
    effect: Effect
    beyond_control: Effect | None  # the effect minus that of the untrained encoders; None: not asked for
    seeds: int  # the fewest of any trained encoder in it


@dataclass(frozen=True)
class Verdict:
    """What is said of a claim, and why."""

    verdict: str
    reason: str


def judge(contrasts: Sequence[Measured], about_training: bool) -> Verdict:
    """The rule above, from step 2 on."""
    suffix = ON_THIS_PAIR if about_training and min(one.seeds for one in contrasts) < 2 else ""
    below = [one for one in contrasts if one.effect.high < one.margin]
    if below:
        return Verdict(CONTRADICTED + suffix, f"{below[0].name}: the whole interval lies below the margin")
    open_ = [one for one in contrasts if one.effect.low <= one.margin]
    if open_:
        return Verdict(INCONCLUSIVE, f"{open_[0].name}: the interval includes the margin")
    if about_training:
        alike = [one for one in contrasts if one.beyond_control is None or one.beyond_control.low <= 0]
        if alike:
            return Verdict(INCONCLUSIVE, f"{alike[0].name}: no more than the untrained architectures show")
    return Verdict(SUPPORTED + suffix, "every contrast exceeds its margin")
