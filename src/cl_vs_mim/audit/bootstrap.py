"""A hierarchical bootstrap: seeds first, then images, the same images and seeds for all that is compared."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cl_vs_mim.audit.series import Series

_DIGITS = 12  # of resamples: the last ones depend on the number of threads, and of answers right or wrong many are ties

# ------------------------------------------------------------------------------------------------
# Effects
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """A contrast, its percentile interval, and how it lies to its margin."""

    value: float
    low: float | None  # None: nothing varies, so there is no interval
    high: float | None
    p_value: float  # two-sided, of the effect being the margin: from the share of resamples on its other side
    standard_error: float | None
    effect_size: float | None  # in standard deviations between images; None where it has none


def summarise(
    value: float, draws: np.ndarray, *, margin: float, level: float, effect_size: float | None = None
) -> Effect:
    """An effect from its resamples (R,); without an interval where they are all the same."""
    draws = draws[np.isfinite(draws)].round(_DIGITS)  # a resample may hold no image that counts
    spread = float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
    if spread <= 1e-12 * max(1.0, abs(value)):
        return Effect(float(value), None, None, 1.0, None, None)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    beyond = min((draws <= margin).mean(), (draws >= margin).mean())
    p_value = min(1.0, 2 * max(float(beyond), 1 / len(draws)))
    return Effect(float(value), float(low), float(high), p_value, spread, effect_size)


# ------------------------------------------------------------------------------------------------
# Resampling
# ------------------------------------------------------------------------------------------------


class Resampling:
    """Draws of seeds and images.

    Encoders that were measured on the same images get the same draws of them, so that what is common to them cancels;
    different trainings are drawn apart, and one encoder's seeds are the same in all its tables.

    Args:
        resamples: R, bootstrap samples.
        seed: seeds the resampling.
    """

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples = resamples
        self.seed = seed
        self._images: dict[tuple[str, ...], np.ndarray] = {}

    def _generator(self, what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(what.encode())])

    def image_weights(self, images: tuple[str, ...]) -> np.ndarray:
        """(R, M), each row the share of every image in one resample."""
        if images not in self._images:
            count = len(images)
            counts = self._generator("\n".join(images)).multinomial(count, [1 / count] * count, size=self.resamples)
            self._images[images] = counts / count
        return self._images[images]

    def seed_weights(self, model: str, seeds: int) -> np.ndarray:
        """(R, S), the share of every seed in each resample.

        Resampling S values spreads their mean too little, by the factor sqrt((S - 1) / S), which matters for three of
        them; the weights are widened around 1 / S by its inverse. An interval of few seeds remains somewhat narrow.
        """
        if seeds == 1:
            return np.ones((self.resamples, 1))
        counts = self._generator(f"seeds of {model}").multinomial(seeds, [1 / seeds] * seeds, size=self.resamples)
        return 1 / seeds + np.sqrt(seeds / (seeds - 1)) * (counts / seeds - 1 / seeds)

    def draws(self, series: Series) -> np.ndarray:
        """(R, D): the mean over seeds and images in every resample."""
        seeds, count, depths = series.values.shape
        if series.images:
            if count < 2:
                raise ValueError(f"two images or more are needed, not {count}")
            by_seed = np.stack([_weighted(self.image_weights(series.images), one) for one in series.values], axis=1)
        else:
            by_seed = np.broadcast_to(series.values[:, 0], (self.resamples, seeds, depths))
        if series.errors is not None:
            noise = self._generator(f"errors of {series.model} in {series.paths[0].parent.name}")
            by_seed = by_seed + noise.normal(size=by_seed.shape) * series.errors
        return np.einsum("rs,rsd->rd", self.seed_weights(series.model, seeds), by_seed).round(_DIGITS)


def means(series: Series) -> np.ndarray:
    """(D,): the mean over images, then over seeds."""
    return np.nanmean(series.values, axis=1).mean(axis=0)


def _weighted(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means (R, D) of values (M, D) under weights (R, M), over the images that count."""
    counted = np.isfinite(values)
    if counted.all():
        return weights @ values
    shares = weights @ counted
    return weights @ np.where(counted, values, 0.0) / np.where(shares > 0, shares, np.nan)


# ------------------------------------------------------------------------------------------------
# Several claims
# ------------------------------------------------------------------------------------------------


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: the chance of one false rejection or more is kept over all of them."""
    adjusted, worst = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}
