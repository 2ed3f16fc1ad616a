"""How sure the three things are that can be said of a claim: it holds, its opposite holds, there is nothing.

Every function works on p values of any shape, so that :mod:`.simulate` puts thousands of studies through the very rule
that judges one. A p value is two-sided, as the intervals are: below 0.05 where a 95 % interval lies on one side.

What each kind of claim may claim falsely, and how often, at level 0.95:

========================  ==========================================================================================
a contrast                2.5 % support and 2.5 % contradiction where there is nothing
each of many depths       support needs all of them, which can only lower its rate (an intersection-union test);
                          contradiction needs one, and is corrected for looking at all (Bonferroni)
a conjunction             the same over its contrasts, whether they are the steps of an order or not
any of several groups     support is corrected for the number of groups; contradiction needs all of them
========================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cl_vs_mim.audit.estimate import Estimate


@dataclass(frozen=True)
class Evidence:
    """p values (...) of the three statements."""

    support: np.ndarray
    contradiction: np.ndarray
    equivalence: np.ndarray  # that the effect is smaller than the smallest that matters


@dataclass(frozen=True)
class Untrained:
    """What the untrained encoders have to do with a contrast.

    Attributes:
        beyond: the contrast minus theirs (K, ...), which must lie on the same side; None: not asked.
        own: of every encoder, its term minus that of its own untrained encoder (E, ...); None: not asked.
        either_way: whether ``own`` may differ in any direction, or must be above 0.
    """

    beyond: Estimate | None = None
    own: Estimate | None = None
    either_way: bool = False

    def trained(self) -> np.ndarray:
        """p value (...) of every encoder being another than its untrained one; 0 where that is not asked."""
        if self.own is None:
            return np.zeros(())
        return (self.own.away(0.0) if self.either_way else self.own.above(0.0)).max(axis=0)


NOT_ASKED = Untrained()


def of_contrast(effect: Estimate, margin: float, smallest: float, untrained: Untrained = NOT_ASKED) -> Evidence:
    """Evidence of one contrast, which should exceed the margin at each of its K depths.

    It is supported where it surely exceeds the margin and its value exceeds it by the smallest effect that matters;
    contradicted where both hold below; and there is nothing where it surely lies within the smallest effect on both
    sides (two one-sided tests). What it shows beyond the untrained encoders has to matter as well, or the smallest
    effect would be met by the architectures alone.

    Args:
        effect: (K, ...).
        margin: that it should exceed.
        smallest: effect beyond the margin that matters; 0: the margin is itself the bound.
        untrained: what the untrained encoders have to do with it.
    """
    beyond = untrained.beyond
    holds = effect.above(margin)
    opposite = effect.below(margin)
    nothing = np.maximum(effect.above(margin - smallest), effect.below(margin + smallest))
    if beyond is not None:
        holds = np.where(beyond.value >= smallest, np.maximum(holds, beyond.above(0.0)), 1.0)
        opposite = np.where(beyond.value <= -smallest, np.maximum(opposite, beyond.below(0.0)), 1.0)
        nothing = np.maximum(nothing, np.maximum(beyond.above(-smallest), beyond.below(smallest)))
    holds = np.where(effect.value >= margin + smallest, holds, 1.0)
    opposite = np.where(effect.value <= margin - smallest, opposite, 1.0)
    if smallest == 0:
        nothing = np.ones_like(nothing)
    trained = untrained.trained()
    depths = len(effect.value)
    return Evidence(
        np.maximum(holds.max(axis=0), trained),
        np.maximum(_one_of(opposite.min(axis=0), depths), trained),
        np.maximum(_one_of(nothing.min(axis=0), depths), trained),
    )


def all_of(parts: Sequence[Evidence]) -> Evidence:
    """A conjunction: no surer than its weakest part; one part is enough to break it, which is paid for."""
    return Evidence(
        np.max([one.support for one in parts], axis=0),
        _one_of(np.min([one.contradiction for one in parts], axis=0), len(parts)),
        _one_of(np.min([one.equivalence for one in parts], axis=0), len(parts)),
    )


def any_of(groups: Sequence[Evidence], stated: int | None = None) -> Evidence:
    """It is enough that one group holds, which is paid for; all must fail to break it.

    Args:
        groups: those that could be measured.
        stated: how many the claim names, where that is more; the rest is open, so that nothing can be contradicted.
    """
    asked = stated or len(groups)
    found = Evidence(
        _one_of(np.min([one.support for one in groups], axis=0), asked),
        np.max([one.contradiction for one in groups], axis=0),
        np.max([one.equivalence for one in groups], axis=0),
    )
    if len(groups) < asked:
        return Evidence(found.support, np.ones_like(found.contradiction), np.ones_like(found.equivalence))
    return found


def _one_of(least: np.ndarray, looks: int) -> np.ndarray:
    """The smallest of several p values, corrected for looking at all (Bonferroni)."""
    return np.minimum(1.0, looks * least)
