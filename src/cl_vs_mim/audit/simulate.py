"""How often the rules of the verdict err: studies whose truth is known, put through the very code that judges one.

A simulated study has S seeds of every encoder, which differ by a standard deviation of 1 (at every depth apart), and
images that differ for all encoders alike, for each encoder, and for each training. An effect is stated in standard
deviations between seeds. All replicates are one array, along the last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from cl_vs_mim.audit.estimate import Estimate, Part, estimate
from cl_vs_mim.audit.evidence import NOT_ASKED, Evidence, Untrained, all_of, any_of, of_contrast
from cl_vs_mim.audit.terms import chosen
from cl_vs_mim.core.progress import progress

COLUMNS = ("kind", "seeds", "effect", "supported", "contradicted", "equivalent", "coverage", "replicates")

_SMALLEST = 0.25  # effect that matters, in standard deviations between seeds
_FAR = 3.0  # effect of the parts that are there, where one is absent
_DEPTHS, _PARTS = 6, 3
_SHARED, _BY_IMAGE, _BY_BOTH = 2.0, 0.5, 0.5  # standard deviations between images: for all, an encoder, a training
_IMAGES = tuple(range(12))
_LEAST_CONTROLS = 5
_LEAST_DECIDED, _OF_WHICH, _SHARE_SD = 20, 200, 0.05  # images; standard deviation of shares between seeds
_OF_EACH, _ALIKE, _BY_CLUSTER = 4, 0.3, 1.5  # images of an identity, their correlation, and their standard deviation

# ------------------------------------------------------------------------------------------------
# Studies
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """One cell of the table."""

    seeds: int
    effect: float  # in standard deviations between seeds
    replicates: int
    level: float = 0.95


class _World:
    """Draws the values of encoders that were shown the same images."""

    def __init__(self, design: Design, rng: np.random.Generator) -> None:
        self.design, self.rng = design, rng
        self.shared = rng.normal(0, _SHARED, (1, len(_IMAGES), 1, design.replicates))
        self._drawn = 0

    def encoder(self, means: Sequence[float], sign: int = 1, *, seeds: int | None = None, spread: float = 1.0) -> Part:
        """Values (S, M, K, R) of an encoder whose K depths have these means, and whose seeds differ by ``spread``."""
        images, replicates = len(_IMAGES), self.design.replicates
        shape = (seeds or self.design.seeds, images, len(means), replicates)
        values = np.reshape(means, (1, 1, -1, 1)) + self.shared
        values = values + self.rng.normal(0, spread, (shape[0], 1, *shape[2:]))
        values = values + self.rng.normal(0, _BY_IMAGE, (1, *shape[1:])) + self.rng.normal(0, _BY_BOTH, shape)
        self._drawn += 1
        return Part(sign, f"encoder {self._drawn}", _IMAGES, values)

    def clustered(self, mean: float, sign: int = 1) -> Part:
        """Values (S, M, 1, R) of an encoder on several images of every identity, correlated for this encoder alone."""
        numbers = np.repeat(np.arange(len(_IMAGES)), _OF_EACH)
        seeds, replicates = self.design.seeds, self.design.replicates
        alike = self.rng.normal(0, _BY_CLUSTER * _ALIKE**0.5, (1, len(_IMAGES), 1, replicates))[:, numbers]
        apart = self.rng.normal(0, _BY_CLUSTER * (1 - _ALIKE) ** 0.5, (1, len(numbers), 1, replicates))
        self._drawn += 1
        values = mean + self.rng.normal(0, 1.0, (seeds, 1, 1, replicates)) + alike + apart
        return Part(sign, f"encoder {self._drawn}", tuple(range(len(numbers))), values, identities=numbers)

    def decisions(self, mean: float, sign: int = 1) -> Part:
        """(S, M, 1, R) of 1, 0 or undecided (NaN): as few images are decided as a claim takes at the least."""
        seeds, replicates = self.design.seeds, self.design.replicates
        share = 0.5 + _SHARE_SD * (mean + self.rng.normal(0, 1.0, (seeds, 1, 1, replicates)))
        said = (self.rng.random((seeds, _OF_WHICH, 1, replicates)) < share).astype(float)
        order = self.rng.random(said.shape).argsort(axis=1).argsort(axis=1)
        said[order >= _LEAST_DECIDED] = np.nan
        self._drawn += 1
        return Part(sign, f"encoder {self._drawn}", tuple(range(_OF_WHICH)), said)

    def untrained(self, means: Sequence[float], sign: int = 1) -> Part:
        """The same of an untrained encoder, which has five seeds or more."""
        return self.encoder(means, sign, seeds=max(_LEAST_CONTROLS, self.design.seeds))


def _opposite(part: Part) -> Part:
    return Part(-part.sign, part.encoder, part.images, part.values)


def _judged(effect: Estimate, untrained: Untrained = NOT_ASKED) -> Evidence:
    return of_contrast(effect, 0.0, _SMALLEST, untrained)


Outcome = tuple[Evidence, list[tuple[Estimate, float]]]  # and estimates (K, R) with the least of their truths
Kind = Callable[[_World, float], Outcome]


def _contrast(world: _World, effect: float) -> Outcome:
    found = estimate([world.encoder([effect]), world.encoder([0.0], -1)])
    return _judged(found), [(found, effect)]


def _unequal(world: _World, effect: float) -> Outcome:
    """One encoder's seeds differ ten times less than the other's."""
    found = estimate([world.encoder([effect]), world.encoder([0.0], -1, spread=0.1)])
    return _judged(found), [(found, effect)]


def _exceed(world: _World, effect: float) -> Outcome:
    trained = [world.encoder([effect + 1]), world.encoder([0.0], -1)]
    untrained = [world.untrained([1.0], -1), world.untrained([0.0])]
    beyond = estimate([*trained, *untrained])
    return _judged(estimate(trained), Untrained(beyond)), [(beyond, effect)]


def _own(world: _World, trained: Sequence[Part], means: Sequence[float], either_way: bool) -> Untrained:
    """Each encoder minus its own untrained one, whose mean is given."""
    pairs = [
        estimate([Part(1, one.encoder, one.images, one.values), world.untrained([mean], -1)])
        for one, mean in zip(trained, means, strict=True)
    ]
    joined = (np.concatenate([getattr(one, key) for one in pairs]) for key in ("value", "error", "df", "single"))
    return Untrained(own=Estimate(*joined), either_way=either_way)


def _beat(world: _World, effect: float) -> Outcome:
    trained = [world.encoder([_FAR + effect]), world.encoder([_FAR], -1)]
    found = estimate(trained)
    return _judged(found, _own(world, trained, [0.0, 0.0], False)), [(found, effect)]


def _differ(world: _World, effect: float) -> Outcome:
    """The architectures differ by far; the first encoder is moved by the effect, the other one surely."""
    trained = [world.encoder([2 * _FAR + effect]), world.encoder([0.0], -1)]
    found = estimate(trained)
    return _judged(found, _own(world, trained, [2 * _FAR, 2 * _FAR], True)), [(found, 2 * _FAR + effect)]


def _each(world: _World, effect: float) -> Outcome:
    found = estimate([world.encoder([effect] * _DEPTHS), world.encoder([0.0] * _DEPTHS, -1)])
    return _judged(found), [(found, effect)]


def _as_built(world: _World, effect: float) -> Outcome:
    """The architectures differ by far before any training, and training moves them apart by the effect (0: nothing)."""
    trained = [world.encoder([2 * _FAR + effect]), world.encoder([0.0], -1)]
    beyond = estimate([*trained, world.untrained([2 * _FAR], -1), world.untrained([0.0])])
    return _judged(estimate(trained), Untrained(beyond)), [(beyond, effect)]


def _as_built_beat(world: _World, effect: float) -> Outcome:
    """The same, each encoder being asked to lie above its own untrained one; both gain the effect."""
    trained = [world.encoder([2 * _FAR + effect]), world.encoder([effect], -1)]
    found = estimate(trained)
    return _judged(found, _own(world, trained, [2 * _FAR, 0.0], False)), [(found, 2 * _FAR)]


def _as_built_differ(world: _World, effect: float) -> Outcome:
    """The same, each encoder being asked to differ from its own untrained one; both are moved by the effect."""
    trained = [world.encoder([2 * _FAR + effect]), world.encoder([effect], -1)]
    found = estimate(trained)
    return _judged(found, _own(world, trained, [2 * _FAR, 0.0], True)), [(found, 2 * _FAR)]


def _chosen(world: _World, effect: float) -> Outcome:
    """The highest of early depths over the last one of the same encoder; one early depth has the effect."""
    drawn = world.encoder([effect, *[0.0] * _DEPTHS]).values  # noqa: PD011
    early = chosen(drawn[:, :, :-1], "max", np.arange(len(_IMAGES)) % 2 == 0)[
        :, 1::2, None
    ]  # one half of the images chooses, the other judges
    last = drawn[:, 1::2, -1:]
    images = _IMAGES[1::2]
    found = estimate([Part(1, "encoder", images, early, chosen=True), Part(-1, "encoder", images, last)])
    return _judged(found), [(found, effect)]


def _parts(world: _World, effects: Iterable[float]) -> list[tuple[Estimate, float]]:
    return [(estimate([world.encoder([one]), world.encoder([0.0], -1)]), one) for one in effects]


def _all(world: _World, effect: float) -> Outcome:
    parts = _parts(world, [effect] * _PARTS)
    return all_of([_judged(one) for one, _ in parts]), parts


def _all_but_one(world: _World, effect: float) -> Outcome:
    parts = _parts(world, [effect, *[_FAR] * (_PARTS - 1)])
    return all_of([_judged(one) for one, _ in parts]), parts


def _order(world: _World, effect: float) -> Outcome:
    """Encoders in a row, each above the next by the effect: neighbours are compared, so that most count twice."""
    row = [world.encoder([-place * effect]) for place in range(_PARTS + 1)]
    parts = [estimate([one, _opposite(other)]) for one, other in pairwise(row)]
    return all_of([_judged(one) for one in parts]), [(one, effect) for one in parts]


def _any(world: _World, effect: float) -> Outcome:
    groups = [_parts(world, [effect] * 2) for _ in range(_PARTS)]
    evidence = [all_of([_judged(one) for one, _ in group]) for group in groups]
    return any_of(evidence), [part for group in groups for part in group]


def _clustered(world: _World, effect: float) -> Outcome:
    """Several images of every identity, which are hard or easy for an encoder together."""
    found = estimate([world.clustered(effect), world.clustered(0.0, -1)])
    return _judged(found), [(found, effect)]


def _decided(world: _World, effect: float) -> Outcome:
    """Shares of decisions: most images are undecided, other ones of every encoder and training, and few count."""
    parts = [world.decisions(place, sign) for place, sign in ((effect, 1), (0.0, -1))]
    found = estimate(parts)
    scaled = Estimate(found.value / _SHARE_SD, found.error / _SHARE_SD, found.df, found.single)
    return _judged(scaled), [(scaled, effect)]


KINDS: dict[str, Kind] = {
    "one contrast": _contrast,
    "one contrast, one encoder steady": _unequal,
    "beyond the untrained (exceed)": _exceed,
    "each above its untrained (beat)": _beat,
    "one not moved by training (differ)": _differ,
    "architectures differ, training adds (exceed)": _as_built,
    "architectures differ, both gain (beat)": _as_built_beat,
    "architectures differ, both moved (differ)": _as_built_differ,
    f"each of {_DEPTHS} depths": _each,
    "a chosen depth over the last": _chosen,
    f"conjunction of {_PARTS}": _all,
    f"conjunction of {_PARTS}, {_PARTS - 1} of them there": _all_but_one,
    f"order of {_PARTS + 1}": _order,
    f"any of {_PARTS} groups of 2": _any,
    "one contrast, images alike by identity": _clustered,
    "shares of few decisions": _decided,
}

# ------------------------------------------------------------------------------------------------
# Rates
# ------------------------------------------------------------------------------------------------


def rates(kind: str, design: Design, seed: int) -> dict[str, object]:
    """One row of the table: how often each thing is said, and how often the intervals cover.

    Args:
        kind: a key of :data:`KINDS`.
        design: seeds, effect and replicates.
        seed: of the draws, which depend on the kind and the design too.
    """
    place = [seed, list(KINDS).index(kind), design.seeds, round(100 * design.effect)]
    evidence, estimates = KINDS[kind](_World(design, np.random.default_rng(place)), design.effect)
    alpha = 1 - design.level
    supported = evidence.support < alpha
    contradicted = (evidence.contradiction < alpha) & ~supported
    equivalent = (evidence.equivalence < alpha) & ~supported & ~contradicted
    covered = np.mean([_covers(one, truth, design.level).mean() for one, truth in estimates])
    found = (float(one.mean()) for one in (supported, contradicted, equivalent, covered))
    return dict(zip(COLUMNS, (kind, design.seeds, design.effect, *found, design.replicates), strict=True))


def _covers(found: Estimate, least: float, level: float) -> np.ndarray:
    """Whether the interval of the least of K truths holds it (R,); see :func:`.estimate.least`."""
    tail = (1 - level) / len(found.value)
    low = (found.value - found.half_width(level)).min(axis=0)
    high = (found.value + found.half_width(1 - tail)).min(axis=0)
    return (low <= least) & (least <= high)


def table(
    seeds: Iterable[int],
    effects: Iterable[float],
    replicates: int,
    seed: int,
    *,
    level: float = 0.95,
    kinds: Iterable[str] = KINDS,
) -> pd.DataFrame:
    """Rates of all kinds, numbers of seeds and effects; columns as in :data:`COLUMNS`."""
    cells = [
        (kind, Design(count, effect, replicates, level)) for kind in kinds for count in seeds for effect in effects
    ]
    return pd.DataFrame([rates(kind, design, seed) for kind, design in progress(cells, desc="rates", unit="cell")])


def allowed(rate: float, replicates: int) -> float:
    """The highest share of replicates that a true rate would show (99.9 % of the time)."""
    return float(stats.binom.ppf(0.999, replicates, rate)) / replicates
