"""From intervals to a verdict, by one written rule: :data:`RULE`, which the page of the audit shows word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from cl_vs_mim.audit.measure import Measured

SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"
ON_THIS_PAIR = " on this pair of models"

RULE = (  # *…* is emphasised on the page
    "Tables or models are missing, or what the question needs does not hold: *not tested here*, and why.",
    "A claim is a conjunction of contrasts, each of which should exceed its margin. One whose whole interval lies "
    "below its margin contradicts the claim. All whose whole intervals lie above support it. Otherwise it is "
    "*inconclusive*, and so is one without an interval. (Where it is enough that one group of contrasts holds, this "
    "is asked of each group, with intervals of a higher level, so that many groups do not make it easier.)",
    "A claim about what training does needs more: the contrast minus the same contrast of the two untrained "
    "architectures must exceed zero with its whole interval too; else it is *inconclusive*, because the architectures "
    "alone could make it.",
    "One seed never gives *supported* for a claim about training: it is *supported on this pair of models*; and one "
    "seed never gives *contradicted* but *contradicted on this pair of models*.",
)


@dataclass(frozen=True)
class Verdict:
    """What is said of a claim, and why."""

    verdict: str
    reason: str

    @property
    def kind(self) -> str:
        """Without the limitation to one pair of models."""
        return self.verdict.removesuffix(ON_THIS_PAIR)


def judge(
    contrasts: Sequence[Measured], about_training: bool, *, control: bool = True, any_group: bool = False
) -> Verdict:
    """The verdict of a claim that can be tested, by steps 2 to 4 of :data:`RULE`.

    Args:
        contrasts: the claim's contrasts, measured.
        about_training: whether it is about what training does, so that one seed is not enough.
        control: whether the untrained encoders enter (step 3), where it is about training.
        any_group: whether it is enough that all contrasts of one group hold.
    """
    controlled = about_training and control
    suffix = ON_THIS_PAIR if about_training and min(one.seeds for one in contrasts) < 2 else ""
    if not any_group:
        return _limited(_judge_all(contrasts, controlled), suffix)
    found = {
        group: _judge_all(list(members), controlled)
        for group, members in groupby(sorted(contrasts, key=attrgetter("group")), key=attrgetter("group"))
    }
    for wanted, reason in ((SUPPORTED, "it holds for {}"), (INCONCLUSIVE, "it is open for {}")):
        groups = [group for group, one in found.items() if one.verdict == wanted]
        if groups:
            return _limited(Verdict(wanted, reason.format(", ".join(groups))), suffix)
    return _limited(Verdict(CONTRADICTED, f"it holds for none of {', '.join(found)}"), suffix)


def _judge_all(contrasts: Sequence[Measured], controlled: bool) -> Verdict:
    below = [one for one in contrasts if one.effect.high is not None and one.effect.high < one.margin]
    if below:
        return Verdict(CONTRADICTED, f"{below[0].name}: the whole interval lies below the margin")
    unknown = [one for one in contrasts if one.effect.low is None]
    if unknown:
        return Verdict(INCONCLUSIVE, f"{unknown[0].name}: one seed and no values by image, so there is no interval")
    open_ = [one for one in contrasts if one.effect.low is not None and one.effect.low <= one.margin]
    if open_:
        return Verdict(INCONCLUSIVE, f"{open_[0].name}: the interval includes the margin")
    if controlled:
        alike = [one for one in contrasts if one.beyond_control is None or (one.beyond_control.low or 0.0) <= 0]
        if alike:
            return Verdict(INCONCLUSIVE, f"{alike[0].name}: no more than the untrained architectures show")
    return Verdict(SUPPORTED, "every contrast exceeds its margin")


def _limited(verdict: Verdict, suffix: str) -> Verdict:
    return Verdict(verdict.verdict + (suffix if verdict.verdict in (SUPPORTED, CONTRADICTED) else ""), verdict.reason)
