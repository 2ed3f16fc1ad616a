"""Intervals. Images are the units of resampling; heads and seeds are averaged within an image first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

_BATCH = 100  # resamples at a time, so that memory does not grow with their number


class Interval(NamedTuple):
    """A mean with its percentile interval, for each of K quantities measured on the same images."""

    mean: np.ndarray  # (K,)
    low: np.ndarray  # (K,)
    high: np.ndarray  # (K,)


def bootstrap_mean(values: np.ndarray, *, level: float, resamples: int, seed: int) -> Interval:
    """Percentile bootstrap of the mean over images.

    Args:
        values: (M, K), a row per image. All K quantities are resampled with the same images, so that curves move as
            a whole.
        level: coverage, for example 0.95.
        resamples: number of bootstrap samples.
        seed: seeds the resampling.

    Raises:
        ValueError: fewer than two images, or values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise ValueError(f"values (images, quantities) of at least 2 images are needed, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values are not finite")
    result = stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        vectorized=True,
        n_resamples=resamples,
        batch=_BATCH,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(values.mean(axis=0), result.confidence_interval.low, result.confidence_interval.high)


def normal_error(low: np.ndarray, high: np.ndarray, level: float) -> np.ndarray:
    """Standard error of an estimate whose interval of coverage ``level`` is given, as if it were normal."""
    return (np.asarray(high) - np.asarray(low)) / (2 * stats.norm.ppf((1 + level) / 2))
