"""Resampled curves: seeds with the spread of a t distribution, images drawn together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cl_vs_mim.audit.bootstrap import Resampling, means, summarise
from cl_vs_mim.audit.series import Series


def series(values: np.ndarray) -> Series:
    """From values (seeds, images, depths)."""
    images = tuple(f"val/{number}" for number in range(values.shape[1])) if values.shape[1] > 1 else ()
    return Series("a", np.arange(values.shape[2]), values, images, None, (Path("kind/table"),))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_resampled_mean_of_few_seeds_follows_t(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(size=(seeds, 1, 1))
    drawn = Resampling(20000, 0).draws(series(values))[:, 0]
    scaled = (drawn - values.mean()) / (values.std(ddof=1) / np.sqrt(seeds))
    assert stats.kstest(scaled, stats.t(seeds - 1).cdf).pvalue > 0.001


def test_images_that_do_not_count_are_left_out() -> None:
    one = series(np.array([1.0, 0.0, np.nan, np.nan, 1.0, 1.0]).reshape(1, 6, 1))
    assert means(one)[0] == 0.75
    assert np.nanmean(Resampling(4000, 0).draws(one)) == pytest.approx(0.75, abs=0.02)


def test_the_same_draws_whatever_the_last_digits_are() -> None:
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 2, (1, 40, 1)).astype(float)
    shaken = answers + rng.normal(0, 1e-16, answers.shape)
    both = (Resampling(300, 0).draws(series(one)) for one in (answers, shaken))
    np.testing.assert_array_equal(*both)


def test_what_does_not_vary_has_no_interval() -> None:
    found = summarise(1.0, np.ones(50), level=0.95)
    assert (found.value, found.low, found.high) == (1.0, None, None)
    with pytest.raises(ValueError, match="two images or more"):
        Resampling(5, 0).draws(Series("a", np.arange(1), np.zeros((1, 1, 1)), ("val/0",), None, (Path("x"),)))
