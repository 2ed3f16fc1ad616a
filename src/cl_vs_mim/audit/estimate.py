"""What is known of a contrast: its value, its standard error by level, and a t distribution that covers with few seeds.

Two things vary. Every encoder was trained (or initialised) from several seeds, and it was shown a sample of images. All
that is compared is linear in the means over both, so nothing needs to be resampled: each level gives a variance, and

- images of one identity are one observation, with the weight of all of them, so that there are as many as identities;
- images that several encoders saw are one sample, so what makes an image hard for all of them cancels;
- a seed of an encoder is the same training in all its tables, so what is particular to it moves together;
- what is particular to one seed *and* one image shows in both levels, and is taken off once;
- images that do not count (of a share of decisions, the undecided ones) add nothing to what is known, nor a degree of
  freedom.

The multiplier of the standard error is the mean of the t quantiles of the levels, weighted by their variances (Cochran
and Cox 1950): t(S - 1) where S seeds are all that varies, and the normal one where images are. It errs to the wide
side; :mod:`.simulate` tabulates by how much.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cl_vs_mim.audit.identities import by_identity

_LIKE_NONE = 1e-12  # relative standard error below which nothing varies
_POINT = 0.975  # the quantile at which the t distributions of the levels are averaged
_DF = np.concatenate([np.geomspace(1, 50, 400), np.geomspace(51, 1e7, 200)])
_QUANTILE = stats.t.ppf(_POINT, _DF)


@dataclass(frozen=True)
class Part:
    """One encoder's share of a contrast. The trailing axes ``...`` are depths, or replicates of a simulation."""

    sign: float
    encoder: str  # parts of one encoder share their seeds
    images: Hashable  # names of the images: parts with the same ones are paired; empty where there are none
    values: np.ndarray  # (S, M, ...): seeds, images; NaN where an image does not count; M is 1 without images
    errors: np.ndarray | None = None  # (S, ...): standard errors that the table itself states
    identities: np.ndarray | None = None  # (M,) integers: which images show one and the same; None: none do
    chosen: bool = False  # at depths that the other seeds chose, so that seeds are not independent


@dataclass(frozen=True)
class Estimate:
    """Values with their errors, all arrays of one shape (...)."""

    value: np.ndarray
    error: np.ndarray  # standard error; 0 where nothing varies, and then there is no interval
    df: np.ndarray  # of the t distribution
    single: np.ndarray  # variance of a new study with one seed of each and as many images; NaN: one seed, so unknown

    def above(self, bound: float) -> np.ndarray:
        """Two-sided p value (...) of lying above the bound; 1 where the value does not."""
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stats.t.sf((self.value - bound) / self.error, self.df)
        return np.where(self.error > 0, np.minimum(1.0, p), 1.0)

    def below(self, bound: float) -> np.ndarray:
        """Two-sided p value (...) of lying below the bound."""
        return Estimate(-self.value, self.error, self.df, self.single).above(-bound)

    def away(self, bound: float) -> np.ndarray:
        """Two-sided p value (...) of being anything but the bound."""
        return np.minimum(self.above(bound), self.below(bound))

    def half_width(self, level: float) -> np.ndarray:
        """Of the interval of this coverage (...)."""
        return stats.t.ppf((1 + level) / 2, self.df) * self.error


def estimate(parts: Sequence[Part]) -> Estimate:
    """The signed sum of the means of the parts.

    Raises:
        ValueError: an image set of one image, or parts of one encoder with different numbers of seeds.
    """
    together: dict[tuple[str, Hashable], np.ndarray] = {}
    counted: dict[Hashable, np.ndarray] = {}  # (...) of each sample of images, how many count
    stated: list[np.ndarray] = []
    for part in parts:
        if part.images and part.values.shape[1] < 2:
            raise ValueError(f"two images or more are needed, not {part.values.shape[1]}")
        key = (part.encoder, part.images)
        values = _influence(part.values)
        if part.identities is not None and part.images:
            values = by_identity(values, part.identities)
        if part.images:
            counts = _counted(part)
            counted[part.images] = np.minimum(counted.get(part.images, counts), counts)
        together[key] = together.get(key, 0.0) + part.sign * values
        if part.errors is not None:
            stated.append((part.errors**2).sum(axis=0) / len(part.errors) ** 2)
    seeds = {encoder: _added(one.mean(axis=1) for key, one in together.items() if key[0] == encoder)
             for encoder, _ in together}  # (S, ...) of each encoder  # fmt: skip
    images = {sample: _added(one.mean(axis=0) for key, one in together.items() if key[1] == sample)
              for _, sample in together if sample}  # (M, ...) of each sample of images  # fmt: skip
    crossed = {part.encoder for part in parts if part.chosen}
    plain = [(one.var(axis=0, ddof=1) / len(one), len(one) - 1) for one in seeds.values() if len(one) > 1]
    by_seed = [
        (one.var(axis=0, ddof=1) / len(one) * (_crossed(len(one)) if encoder in crossed else 1), len(one) - 1)
        for encoder, one in seeds.items()
        if len(one) > 1
    ]
    by_image = [_image_level(one, counted[sample]) for sample, one in images.items()]
    if by_image:
        twice = sum((_interaction(one) for (_, sample), one in together.items() if sample), start=np.zeros(()))
        total = sum((variance for variance, _ in by_image), start=np.zeros(()))
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = np.where(total > 0, np.maximum(total - twice, 0) / total, 0.0)
        by_image = [(variance * kept, df) for variance, df in by_image]
    by_table = [(one, _DF[-1]) for one in stated]
    value = sum((one.mean(axis=0) for one in seeds.values()), start=np.zeros(()))
    levels: list[tuple[np.ndarray, float | np.ndarray]] = [*by_seed, *by_image, *by_table]
    error, df = _pooled(value, levels)
    once = sum((variance * (df + 1) for variance, df in plain), start=np.zeros(()))
    once = once + sum((variance for variance, _ in (*by_image, *by_table)), start=np.zeros(()))
    known = min(len(one) for one in seeds.values()) > 1
    return Estimate(value, error, df, once if known else np.full(np.shape(value), np.nan))


# ------------------------------------------------------------------------------------------------
# Levels
# ------------------------------------------------------------------------------------------------


def _influence(values: np.ndarray) -> np.ndarray:
    """(S, M, ...) without NaN, of the same means over images: images that do not count sit at the mean."""
    counted = np.isfinite(values)
    if counted.all():
        return values
    mean, share = np.nanmean(values, axis=1, keepdims=True), counted.mean(axis=1, keepdims=True)
    return mean + np.where(counted, values - mean, 0.0) / share


def _counted(part: Part) -> np.ndarray:
    """(...) how many images count for any seed; where several show one identity, how many identities."""
    counts = np.isfinite(part.values).any(axis=0)  # (M, ...)
    if part.identities is None or counts.all():
        return counts.sum(axis=0) if part.identities is None else np.full(counts.shape[1:], part.identities.max() + 1)
    return sum((counts[part.identities == one].any(axis=0).astype(int) for one in np.unique(part.identities)),
               start=np.zeros((), dtype=int))  # fmt: skip


def _image_level(values: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the mean over images (M, ...), and its degrees of freedom, where fewer images may count.

    Those that do not sit at the mean, which the variance takes for knowledge: s^2 / M over all M and s^2 / m over the m
    that count differ by m (M - 1) / (M (m - 1)), once the influence of those that count has been scaled by M / m.
    """
    every, df = len(values), np.maximum(counted - 1, 1)
    return values.var(axis=0, ddof=1) / every * (counted * (every - 1) / (every * df)), df


def _interaction(values: np.ndarray) -> np.ndarray:
    """Variance (...) of the mean that seeds and images (S, M, ...) make only together; 0 with one seed."""
    seeds, images = values.shape[:2]
    if seeds < 2:
        return np.zeros(values.shape[2:])
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True)
    rest += values.mean(axis=(0, 1), keepdims=True)
    return (rest**2).sum(axis=(0, 1)) / ((seeds - 1) * (images - 1) * seeds * images)


def _crossed(seeds: int) -> float:
    """Variance of a mean of S values, each at a depth that the others chose, over that of independent ones.

    The correction of Nadeau and Bengio (2003) for cross-validation: 1 / S + 1 / (S - 1) instead of 1 / S.
    """
    return 1 + seeds / (seeds - 1)


def _pooled(
    value: np.ndarray, levels: Sequence[tuple[np.ndarray, float | np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Standard error and degrees of freedom (...) of a value from the variances of its levels."""
    total = sum((variance for variance, _ in levels), start=np.zeros(np.shape(value)))
    error = np.sqrt(total)
    error = np.where(error <= _LIKE_NONE * np.maximum(1.0, np.abs(value)), 0.0, error)
    quantile = sum((variance * np.interp(df, _DF, _QUANTILE) for variance, df in levels), start=np.zeros(()))
    with np.errstate(divide="ignore", invalid="ignore"):
        quantile = np.where(total > 0, quantile / total, _QUANTILE[-1])
    return error, np.exp(np.interp(-quantile, -_QUANTILE, np.log(_DF)))


def _added(arrays: Iterable[np.ndarray]) -> np.ndarray:
    first, *rest = arrays
    for one in rest:
        if len(one) != len(first):
            raise ValueError(f"{len(first)} and {len(one)} seeds or images of one and the same sample")
        first = first + one
    return first


def predicted(found: Estimate, level: float, place: int) -> tuple[float, float] | None:
    """Where a new study, of one seed of each encoder and as many images, would find one of the K values.

    Returns:
        The ends of the prediction interval; None where only one seed is there, so that how trainings differ is unknown.
    """
    variance = float(found.error[place] ** 2 + found.single[place])
    if not np.isfinite(variance) or variance == 0:
        return None
    half = float(stats.t.ppf((1 + level) / 2, found.df[place])) * variance**0.5
    return float(found.value[place]) - half, float(found.value[place]) + half


# ------------------------------------------------------------------------------------------------
# For readers
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """A number with its interval."""

    value: float
    low: float | None  # None: nothing varies, so there is no interval
    high: float | None
    standard_error: float | None
    effect_size: float | None = None  # in standard deviations between images; None where it has none


def least(found: Estimate, level: float, effect_size: float | None = None) -> Effect:
    """The least of K values (K,), with an interval for the least of the truths.

    Its lower end is the lowest lower end, which needs no correction (all K are above it only if the least is); its
    upper end is the lowest of the upper ends corrected for looking at all K.
    """
    value = float(found.value.min())
    if (found.error == 0).any():
        return Effect(value, None, None, None)
    tail = (1 - level) / len(found.value)
    low = float((found.value - found.half_width(level)).min())
    high = float((found.value + found.half_width(1 - tail)).min())
    return Effect(value, low, high, float(found.error[found.value.argmin()]), effect_size)
