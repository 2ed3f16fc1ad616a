"""From a contrast of ``claims.yaml`` and the tables of a study to its effect and interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cl_vs_mim.audit.bootstrap import Effect, Resampling, means, summarise
from cl_vs_mim.audit.claims import Contrast, Heads, Term
from cl_vs_mim.audit.series import Series, Tables, control_of, model_of, source_of
from cl_vs_mim.core.errors import UserError

_REDUCE = {
    "mean": lambda values: values.mean(axis=-1),
    "max": lambda values: values.max(axis=-1),
    "min": lambda values: values.min(axis=-1),
    "first": lambda values: values[..., 0],
    "last": lambda values: values[..., -1],
}
_NEAR = 1e-9  # of relative depths


@dataclass(frozen=True)
class Choices:
    """What may reasonably be chosen otherwise; the defaults are those of the verdict."""

    heads: Heads = "mean"
    grid: int | None = None  # patches a side of the images; None: the encoder's own
    every: int = 1  # 1: all images, 2: every other one
    shift: float = 0.0  # of the inner ends of depth windows, in relative depth
    alternative: int | None = None  # of the contrast's own


@dataclass(frozen=True)
class Measured:
    """One contrast of a claim."""

    name: str
    margin: float
    effect: Effect
    beyond_control: Effect | None  # the effect minus that of the untrained encoders; None: not asked for
    seeds: int  # the fewest of any encoder in it
    images: int  # 0: the tables have no values by image
    group: str = ""
    paths: tuple[Path, ...] = ()  # the tables behind it


# ------------------------------------------------------------------------------------------------
# Depths
# ------------------------------------------------------------------------------------------------


def window(depths: np.ndarray, term: Term, shift: float = 0.0) -> np.ndarray:
    """Which of the depths (D,) a term takes, as booleans (D,); ends other than 0 and 1 are moved by ``shift``.

    Raises:
        UserError: none of them.
    """
    span = depths[-1] - depths[0]
    relative = (depths - depths[0]) / span if span > 0 else np.ones(len(depths))
    low, high = (end if end in (0.0, 1.0) else min(1.0, max(0.0, end + shift)) for end in term.depths)
    inside = (relative >= low - _NEAR) & (relative <= high + _NEAR) if span > 0 else np.ones(len(depths), dtype=bool)
    if not inside.any():
        raise UserError(f"no depth of {len(depths)} lies between {low:.3g} and {high:.3g} of the whole")
    return inside


def reduce_depths(depths: np.ndarray, values: np.ndarray, term: Term, shift: float = 0.0) -> np.ndarray:
    """One number from values (..., D) at ``depths`` (D,), as the term says."""
    return _REDUCE[term.over](values[..., window(depths, term, shift)])


# ------------------------------------------------------------------------------------------------
# Effects
# ------------------------------------------------------------------------------------------------

Curves = Callable[[Series], np.ndarray]  # a series to its means (..., D)


def _signed(contrast: Contrast) -> list[tuple[int, Term]]:
    return [(1, term) for term in contrast.more] + [(-1, term) for term in contrast.less]


def _combined(contrast: Contrast, series: Sequence[Series], curves: Curves, shift: float) -> np.ndarray:
    """The effect (...,), from the curves of its terms."""
    parts = (
        sign * reduce_depths(one.depths, curves(one), term, shift)
        for (sign, term), one in zip(_signed(contrast), series, strict=True)
    )
    return sum(parts, start=np.zeros(()))


def _by_depth(contrast: Contrast, series: Sequence[Series], curves: Curves, shift: float) -> np.ndarray:
    """More minus less (..., D) at every depth of their window."""
    more, less = series
    if len(more.depths) != len(less.depths):
        raise UserError(f"{contrast.name}: {more.model} and {less.model} have different numbers of depths")
    inside = window(more.depths, contrast.more[0], shift)
    return (curves(more) - curves(less))[..., inside]


def _effect(
    contrast: Contrast, series: Sequence[Series], controls: Sequence[Series], curves: Curves, shift: float
) -> np.ndarray:
    """The effect, minus that of the controls where there are any."""
    if not contrast.each_depth:
        found = _combined(contrast, series, curves, shift)
        return found - _combined(contrast, controls, curves, shift) if controls else found
    found = _by_depth(contrast, series, curves, shift)
    return (found - _by_depth(contrast, controls, curves, shift) if controls else found).min(axis=-1)


def _between_images(contrast: Contrast, series: Sequence[Series], shift: float, value: float) -> float | None:
    """The effect in standard deviations of what the images show one by one; None where they cannot be paired."""
    if len({one.images for one in series}) > 1 or not series[0].images:
        return None
    if not all(np.isfinite(one.values).all() for one in series):
        return None
    each = _effect(contrast, series, (), lambda one: one.values.mean(axis=0), shift)
    spread = float(np.std(each, ddof=1))
    return value / spread if spread > 0 else None


def measure(
    tables: Tables,
    contrast: Contrast,
    controlled: bool,
    resampling: Resampling,
    level: float,
    choices: Choices | None = None,
) -> Measured:
    """Effect of the trained encoders, and what of it exceeds the untrained ones.

    Args:
        tables: a study's tables.
        contrast: what is compared.
        controlled: whether the effect of the untrained encoders is to be subtracted.
        resampling: draws of seeds and images.
        level: confidence level of the intervals.
        choices: other than those of the verdict.

    Raises:
        UserError: tables or models are missing; the message says which.
    """
    choices = choices or Choices()
    contrast = read_otherwise(contrast, choices)
    study = tables.study
    names = [model_of(study, term.model) for _, term in _signed(contrast)]
    sources = [source_of(contrast, term, choices.heads, choices.grid, choices.every) for _, term in _signed(contrast)]
    series = [tables.series(*pair) for pair in zip(names, sources, strict=True)]
    controls = []
    if controlled:
        controls = [tables.series(control_of(study, name), source) for name, source in zip(names, sources, strict=True)]
    _check_images([*series, *controls])
    drawn: dict[int, np.ndarray] = {}

    def draws(one: Series) -> np.ndarray:
        if id(one) not in drawn:
            drawn[id(one)] = resampling.draws(one)
        return drawn[id(one)]

    def effect_of(subtracted: Sequence[Series], margin: float) -> Effect:
        value = float(_effect(contrast, series, subtracted, means, choices.shift))
        resampled = _effect(contrast, series, subtracted, draws, choices.shift)
        size = _between_images(contrast, series, choices.shift, value) if not subtracted else None
        return summarise(value, resampled, margin=margin, level=level, effect_size=size)

    return Measured(
        contrast.name,
        contrast.margin,
        effect_of((), contrast.margin),
        effect_of(controls, 0.0) if controlled else None,
        min(len(one.values) for one in series),
        min(len(one.images) for one in series),
        contrast.group,
        tuple(dict.fromkeys(path for one in (*series, *controls) for path in one.paths)),
    )


def _check_images(series: Sequence[Series]) -> None:
    """Tables of one kind must be of the same images; otherwise they would silently be compared unpaired."""
    first: dict[str, Series] = {}
    for one in series:
        kind = one.paths[0].parent.name
        if first.setdefault(kind, one).images != one.images:
            raise UserError(
                f"tables {kind} of {first[kind].model} and {one.model} are of different images; rebuild them"
            )


def read_otherwise(contrast: Contrast, choices: Choices) -> Contrast:
    """The contrast with one of its alternatives in place; as it is where it has none."""
    if choices.alternative is None or choices.alternative >= len(contrast.alternatives):
        return contrast
    other = contrast.alternatives[choices.alternative]
    changed = {"table": other.table or contrast.table, "where": contrast.where | other.where}
    for key in ("rank_fraction", "decision"):
        if getattr(other, key) is not None:
            changed[key] = getattr(other, key)
    return contrast.model_copy(update=changed)
