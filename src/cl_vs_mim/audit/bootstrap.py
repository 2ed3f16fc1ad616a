"""A hierarchical bootstrap: seeds first, then images, the same images for all encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Values = Mapping[str, np.ndarray]  # encoder -> (seeds, images, depths)


@dataclass(frozen=True)
class Effect:
    """A contrast, its percentile interval, and how it lies to its margin."""

    value: float
    low: float
    high: float
    p_value: float  # two-sided, of the effect being the margin: from the share of resamples on its other side
    standard_error: float
    resamples: int

    @property
    def effect_size(self) -> float:
        """The effect in units of its standard error; infinite where nothing varied."""
        return self.value / self.standard_error if self.standard_error > 0 else np.inf * np.sign(self.value)


def bootstrap_effect(
    values: Values,
    effect: Callable[[Mapping[str, np.ndarray]], float],
    *,
    margin: float,
    level: float,
    resamples: int,
    seed: int,
) -> Effect:
    """The effect of the means, and its interval over seeds and images.

    Args:
        values: for each encoder (S, M, D): seeds, images, depths. M is the same for all, and so are the images; seeds
            of different encoders are different trainings and are drawn apart.
        effect: means over seeds and images, encoder -> (D,), to one number.
        margin: the value from which the claim holds.
        level: coverage, for example 0.95.
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: encoders with different images, fewer than two images, or values that are not finite.
    """
    images = {array.shape[1] for array in values.values()}
    if len(images) != 1 or min(images) < 2:
        raise ValueError(f"two images or more, the same for all encoders, are needed, not {sorted(images)}")
    if not all(np.isfinite(array).all() for array in values.values()):
        raise ValueError("values are not finite")
    generator = np.random.default_rng(seed)
    (count,) = images
    found = np.empty(resamples)
    for number in range(resamples):
        weight = np.bincount(generator.integers(count, size=count), minlength=count) / count  # (M,)
        means = {}
        for name, array in values.items():
            chosen = generator.integers(len(array), size=len(array)) if len(array) > 1 else [0]
            means[name] = weight @ array[chosen].mean(axis=0)  # (D,)
        found[number] = effect(means)
    value = effect({name: array.mean(axis=(0, 1)) for name, array in values.items()})
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    beyond = min((found <= margin).mean(), (found >= margin).mean())
    return Effect(
        value=float(value),
        low=float(low),
        high=float(high),
        p_value=float(min(1.0, 2 * max(beyond, 1 / resamples))),
        standard_error=float(found.std(ddof=1)),
        resamples=resamples,
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: the chance of one false rejection or more is kept over all of them."""
    adjusted, worst = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.get)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}
