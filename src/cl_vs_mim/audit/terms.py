"""A term of a contrast as numbers: which depths of a series it takes, and how they become one number or several."""

from __future__ import annotations

import numpy as np

from cl_vs_mim.audit.contrasts import Contrast, Term
from cl_vs_mim.audit.identities import choosing, identities
from cl_vs_mim.audit.series import Series
from cl_vs_mim.core.errors import UserError

CHOOSING = ("max", "min")  # a depth

_LEAST_IDENTITIES = 4  # two to choose by, and two to measure on
_NEAR = 1e-9  # of relative depths


def window(depths: np.ndarray, term: Term, shift: float = 0.0) -> np.ndarray:
    """Which of the depths (D,) a term takes, as booleans (D,); ends other than 0 and 1 are moved by ``shift``.

    Windows were stated for twelve blocks. One into which no depth of a shallower encoder falls takes the depth nearest
    to its middle, the earlier of two.
    """
    span = depths[-1] - depths[0]
    relative = (depths - depths[0]) / span if span > 0 else np.ones(len(depths))
    low, high = (end if end in (0.0, 1.0) else min(1.0, max(0.0, end + shift)) for end in term.depths)
    inside = (relative >= low - _NEAR) & (relative <= high + _NEAR) if span > 0 else np.ones(len(depths), dtype=bool)
    if not inside.any():
        inside[np.argmin(np.round(abs(relative - (low + high) / 2), 9))] = True
    return inside


def reduced(series: Series, term: Term, shift: float = 0.0, *, plain: bool = False) -> np.ndarray:
    """The term's number of every seed and image (S, M, 1).

    Args:
        series: of the encoder.
        term: which depths, and what of them.
        shift: of the inner ends of the window.
        plain: the mean of the window, where the term would choose a depth.

    Raises:
        UserError: a depth is to be chosen, and there is neither a second seed nor a second image to measure it on.
    """
    inside = series.values[..., window(series.depths, term, shift)]
    if term.over in CHOOSING and not plain:
        return chosen(inside, term.over, choosing(series.images))[..., None]
    if term.over in ("first", "last"):
        return inside[..., [0 if term.over == "first" else -1]]
    return inside.mean(axis=-1, keepdims=True)


def judging(contrast: Contrast, images: tuple[str, ...]) -> np.ndarray:
    """Which images (M,) a contrast is measured on: those of every other identity, where the rest chooses a depth.

    Raises:
        UserError: there are images, but of too few identities to be halved.
    """
    if not images or not any(term.over in CHOOSING for _, term in contrast.signed()):
        return np.ones(max(len(images), 1), dtype=bool)
    count = int(identities(images).max()) + 1
    if count < _LEAST_IDENTITIES:
        raise UserError(
            f"{contrast.name}: a depth that is chosen needs images of {_LEAST_IDENTITIES} identities, not {count}"
        )
    return ~choosing(images)


def chosen(values: np.ndarray, over: str, chooses: np.ndarray) -> np.ndarray:
    """(S, M) of values (S, M, D, ...) at the depth that is highest or lowest for the others.

    The depth of a seed is chosen by the other seeds, where there are several, and on the images (M,) that choose
    (:func:`judging` leaves those out).

    Raises:
        UserError: there is neither a second seed nor a second image.
    """
    seeds, images, depths = values.shape[:3]
    if depths > 1 and seeds == images == 1:
        raise UserError("a depth that is chosen needs a second seed or a second image to be measured on")
    place = np.argmax if over == "max" else np.argmin
    by_seed = np.nanmean(values[:, chooses], axis=1)  # (S, D, ...)
    found = np.empty(values.shape[:2] + values.shape[3:])
    for seed in range(seeds):
        others = by_seed[np.arange(seeds) != seed] if seeds > 1 else by_seed
        depth = place(others.mean(axis=0), axis=0)  # (...)
        found[seed] = np.take_along_axis(values[seed], depth[None, None], axis=1)[:, 0]
    return found


def expanded(contrast: Contrast, series: list[Series], shift: float = 0.0) -> tuple[list[np.ndarray], list[str]]:
    """The numbers (S, M, K) of each term at the K depths that the contrast asks about, and their names.

    Raises:
        UserError: the terms have no such depths, or different numbers of them.
    """
    terms = [term for _, term in contrast.signed()]
    if contrast.every is None:
        return [reduced(one, term, shift) for one, term in zip(series, terms, strict=True)], [""]
    if contrast.every == "alone":
        inside = window(series[0].depths, terms[0], shift)
        return [series[0].values[..., inside]], [f"{depth:g}" for depth in series[0].depths[inside]]
    more, less = series
    if contrast.every == "both" and len(more.depths) != len(less.depths):
        raise UserError(f"{contrast.name}: {more.model} and {less.model} have different numbers of depths")
    windows = [window(one.depths, term, shift) for one, term in zip(series, terms, strict=True)]
    of_more, of_less = (one.values[..., here] for one, here in zip(series, windows, strict=True))
    names = [f"{depth:g}" for depth in less.depths[windows[1]]]
    if contrast.every == "step":
        if len(names) < 2:
            raise UserError(f"{contrast.name}: a step needs two depths, and {more.model} has one there")
        return [of_more[..., 1:], of_less[..., :-1]], names[1:]
    if contrast.every == "less":
        return [reduced(more, terms[0], shift), of_less], names
    if contrast.every == "both":
        return [of_more, of_less], names
    pairs = [f"{one:g} and {other}" for one in more.depths[windows[0]] for other in names]
    return [np.repeat(of_more, len(names), axis=-1), np.tile(of_less, of_more.shape[-1])], pairs
