"""From what is known of the contrasts to a verdict, by one written rule: :data:`RULE`, which the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cl_vs_mim.audit.claims import Rule
from cl_vs_mim.audit.estimate import Effect
from cl_vs_mim.audit.evidence import Evidence, all_of, any_of
from cl_vs_mim.audit.measure import Measured

SUPPORTED, CONTRADICTED = "supported", "contradicted"
EQUIVALENT = "equivalent to nothing"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested here"
ON_THESE = " on these encoders"

RULE = (  # *…* is emphasised on the page
    "What a question needs is asked by its interval; that an encoder is no near identity, of every seed at every block "
    "by its value. Tables or models are missing, or what the question needs does not hold: *not tested here*, and why.",
    "A claim is a conjunction of contrasts. A contrast should exceed its margin; the smallest effect that matters is "
    "stated beside it. It is supported when its whole interval lies above the margin *and* its value exceeds the "
    "margin by the smallest effect; contradicted when both hold below; *equivalent to nothing* when the whole interval "
    "lies within the smallest effect on both sides.",
    "A contrast that is asked at many depths is supported when it is at every one of them, and contradicted when it is "
    "at some depth after correction for looking at all. A depth that is chosen is chosen by one half of the identities "
    "that images show and by the other seeds, and measured on the other half and this seed.",
    "All contrasts supported: the claim is *supported*. One contradicted, or equivalent to nothing, after correction "
    "for their number: the whole claim does not hold, and is called so for this part of it, which the reason names; "
    "the other parts may hold. Where it is enough that one group of contrasts holds, support is corrected for "
    "the number of groups, and contradiction needs all of them. Otherwise it is *inconclusive*.",
    "How the untrained encoders enter stands with each claim: the contrast minus theirs must lie on the same side of 0 "
    "by the smallest effect or more (*exceed*); each encoder must lie above its own untrained one (*beat*), or be "
    "different from it (*differ*); or "
    "they do not (*none*). What is asked for support is asked for a contradiction and for equivalence too.",
    "With fewer seeds of a trained encoder than the rules ask for, or fewer of an untrained one that enters than they "
    "ask for or than there are of the trained ones, a verdict speaks *on these encoders*; so it does where what the "
    "question needs is known from as few. With one seed the interval is over images alone.",
)


@dataclass(frozen=True)
class Verdict:
    """What is said of a claim, and why."""

    verdict: str
    reason: str
    p_value: float | None = None  # of what is said; of support, where it is inconclusive
    decided_by: str = ""  # name of the contrast that the reason speaks of; empty where there is none

    @property
    def kind(self) -> str:
        """Without the limitation to these encoders."""
        return self.verdict.removesuffix(ON_THESE)


def judge(
    measured: Sequence[Measured], rule: Rule, level: float, groups: int = 0, needs: Sequence[Measured] = ()
) -> Verdict:
    """The verdict of a claim that can be tested, by :data:`RULE`.

    Args:
        measured: its contrasts.
        rule: what is fixed beforehand.
        level: of the intervals.
        groups: that the claim names, where it is enough that all contrasts of one group hold; 0: it names none.
        needs: what the question needs, which holds: known from as few seeds, it limits the verdict as a contrast does.
    """
    by_group: dict[str, list[Measured]] = {}
    for one in measured:
        by_group.setdefault(one.group if groups else "", []).append(one)
    each = {group: all_of([one.evidence for one in members]) for group, members in by_group.items()}
    found = any_of(list(each.values()), groups) if groups else each[""]
    word = decide(found, level)
    p_value = {CONTRADICTED: found.contradiction, EQUIVALENT: found.equivalence}.get(word, found.support)
    limited = ON_THESE if word != INCONCLUSIVE and any(_few(one, rule) for one in (*measured, *needs)) else ""
    nearest = min(each, key=lambda group: float(each[group].support))
    decisive = _decisive(by_group[nearest], word)
    reason = _reason(by_group[nearest], decisive, word, level)
    if groups:
        reason = f"nearest is {nearest}: {reason}"
    return Verdict(word + limited, reason, float(p_value), decisive.name)


def decide(evidence: Evidence, level: float) -> str:
    """One of the four words for a single claim."""
    alpha = 1 - level
    for word, p in (
        (SUPPORTED, evidence.support),
        (CONTRADICTED, evidence.contradiction),
        (EQUIVALENT, evidence.equivalence),
    ):
        if float(p) < alpha:
            return word
    return INCONCLUSIVE


def _few(one: Measured, rule: Rule) -> bool:
    """Whether a contrast has too few seeds to speak of more than these encoders."""
    if one.control_seeds is not None and one.control_seeds < max(rule.least_control_seeds, one.seeds):
        return True
    return one.seeds < rule.least_seeds


# ------------------------------------------------------------------------------------------------
# In words
# ------------------------------------------------------------------------------------------------


def _decisive(measured: Sequence[Measured], word: str) -> Measured:
    """The contrast on which the verdict hangs; of several alike, the one that lies least above its margin."""

    def hold(one: Measured) -> tuple[bool, float, float]:
        return not one.has_interval, float(one.evidence.support), -one.clearance

    if word == CONTRADICTED:
        return min(measured, key=lambda one: (float(one.evidence.contradiction), one.clearance))
    if word == EQUIVALENT:
        return min(measured, key=lambda one: (float(one.evidence.equivalence), one.clearance))
    return max(measured, key=hold)


def _reason(measured: Sequence[Measured], one: Measured, word: str, level: float) -> str:
    alpha = 1 - level
    if word == SUPPORTED:
        return "every contrast exceeds its margin, by an effect that matters" + "".join(map(_untrained, measured))
    if word == CONTRADICTED:
        return f"{_at(one)}: the whole interval lies below the margin{_others(measured, one, alpha)}"
    if word == EQUIVALENT:
        within = "the whole interval lies within the smallest effect that matters"
        return f"{_at(one)}: {within}{_others(measured, one, alpha)}"
    return f"{_at(one)}: {_open(one, one.interval(level), alpha)}"


def _others(measured: Sequence[Measured], decisive: Measured, alpha: float) -> str:
    """How the rest of a conjunction fares, of which one part that fails is enough."""
    others = [one for one in measured if one is not decisive]
    if not others:
        return ""
    hold = sum(float(one.evidence.support) < alpha for one in others)
    return f"; said of this part, without which the whole does not hold: {hold} of the other {len(others)} hold"


def _untrained(one: Measured) -> str:
    """What the architectures show untrained, where training was only asked to change it."""
    if one.before is None:
        return ""
    value = f"{float(one.before.value.min()):.3g} ({one.name})"
    return f"; the architectures differ untrained by {value}" if len(set(one.encoders)) > 1 else f"; untrained {value}"


def _open(one: Measured, effect: Effect, alpha: float) -> str:
    """Why a contrast is not supported, in the order in which the rule asks."""
    if not one.has_interval or effect.low is None or effect.high is None:
        return "nothing varies (one seed and no values by image, or all alike), so there is no interval"
    if effect.high < one.margin:
        return f"below its margin, but {_not_below(one, alpha)}"
    if effect.low <= one.margin:
        return "the interval includes the margin"
    if float(one.effect.value.min()) < one.margin + one.smallest:
        return "above its margin, but by less than matters"
    beyond = one.untrained.beyond
    if beyond is not None and float(beyond.above(0.0).max()) >= alpha:
        return "no more than the untrained encoders of the same architectures show"
    if beyond is not None and float(beyond.value.min()) < one.smallest:
        return "beyond the untrained encoders, but by less than matters"
    own = one.untrained.own
    if own is not None and float(one.untrained.trained()) >= alpha:
        p = own.away(0.0) if one.untrained.either_way else own.above(0.0)
        better = "different from" if one.untrained.either_way else "above"
        return f"{one.encoders[int(p.argmax())]} is not surely {better} its own untrained encoder"
    return "it holds, but not after correction for looking at all"


def _not_below(one: Measured, alpha: float) -> str:
    """Why a contrast that lies below its margin contradicts nothing."""
    if float(one.effect.value.min()) > one.margin - one.smallest:
        return "by less than matters"
    beyond = one.untrained.beyond
    if beyond is not None and float(beyond.below(0.0).min()) >= alpha:
        return "so are the untrained encoders of the same architectures"
    if beyond is not None and float(beyond.value.min()) > -one.smallest:
        return "below the untrained encoders by less than matters"
    if float(one.untrained.trained()) >= alpha:
        return "some encoder is not surely beyond its own untrained one"
    return "not surely so after correction for all that is asked"


def _at(one: Measured) -> str:
    where = one.depths[one.weakest]
    return f"{one.name} (depth {where})" if where else one.name
