"""Resampling of whole curves: seeds first, then images. Only for what is not linear in means (the order of a curve)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from cl_vs_mim.audit.estimate import Effect
from cl_vs_mim.audit.identities import identities
from cl_vs_mim.audit.series import Series

_DIGITS = 12  # of resamples: the last ones depend on the number of threads, and of answers right or wrong many are ties


def summarise(value: float, draws: np.ndarray, *, level: float) -> Effect:
    """A number with the percentile interval of its resamples (R,); without one where they are all the same."""
    draws = draws[np.isfinite(draws)].round(_DIGITS)  # a resample may hold no image that counts
    spread = float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
    if spread <= 1e-12 * max(1.0, abs(value)):
        return Effect(float(value), None, None, None)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Effect(float(value), float(low), float(high), spread)


class Resampling:
    """Draws of seeds and images of one encoder.

    Args:
        resamples: R, bootstrap samples.
        seed: seeds the resampling.
    """

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples = resamples
        self.seed = seed

    def _generator(self, what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(what.encode())])

    def image_weights(self, images: tuple[str, ...]) -> np.ndarray:
        """(R, M), each row the share of every image in one resample, which draws identities with all their images."""
        numbers = identities(images)
        count = int(numbers.max()) + 1
        drawn = self._generator("\n".join(images)).multinomial(count, [1 / count] * count, size=self.resamples)
        weights = drawn[:, numbers]
        return weights / weights.sum(axis=1, keepdims=True)

    def seed_weights(self, model: str, seeds: int) -> np.ndarray:
        """(R, S), the weight of every seed in each resample; each row adds up to 1.

        Normal weights around 1 / S, so spread that the resampled mean has the variance s^2 / S of the mean, and widened
        by a draw of sqrt(df / chi^2): the mean then follows t(S - 1) exactly, as an interval of few seeds has to.
        """
        if seeds == 1:
            return np.ones((self.resamples, 1))
        draws = self._generator(f"seeds of {model}")
        around = draws.normal(size=(self.resamples, seeds))
        around -= around.mean(axis=1, keepdims=True)
        wide = np.sqrt((seeds - 1) / draws.chisquare(seeds - 1, size=(self.resamples, 1)))
        return 1 / seeds + wide * around / np.sqrt(seeds * (seeds - 1))

    def draws(self, series: Series) -> np.ndarray:
        """(R, D): the mean over seeds and images in every resample."""
        seeds, count, depths = series.values.shape
        if series.images:
            if count < 2:
                raise ValueError(f"two images or more are needed, not {count}")
            weights = self.image_weights(series.images)
            by_seed = np.stack([_weighted(weights, one) for one in series.values], axis=1)
        else:
            by_seed = np.broadcast_to(series.values[:, 0], (self.resamples, seeds, depths))
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


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: the chance of one false rejection or more is kept over all of them."""
    adjusted, worst = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}
