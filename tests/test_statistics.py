"""The bootstrap interval: coverage on data of known mean, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from cl_vs_mim.core.intervals import bootstrap_mean


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    runs = generator.normal(2.0, 1.0, size=(60, 400))  # 400 experiments on 60 images each, as 400 quantities
    interval = bootstrap_mean(runs, level=0.95, resamples=1000, seed=1)
    covered = np.mean((interval.low <= 2.0) & (interval.high >= 2.0))
    assert 0.91 <= covered <= 0.975  # the percentile interval of 60 values covers a little less than 95 %


def test_the_width_is_that_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(500, 1))
    interval = bootstrap_mean(values, level=0.95, resamples=4000, seed=0)
    expected = 2 * 1.96 * values.std(ddof=0) / np.sqrt(500)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.05)
    assert interval.mean == pytest.approx(values.mean())


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    values = np.random.default_rng(0).random((30, 3))
    first = bootstrap_mean(values, level=0.9, resamples=200, seed=0)
    assert np.array_equal(first.low, bootstrap_mean(values, level=0.9, resamples=200, seed=0).low)
    assert not np.array_equal(first.low, bootstrap_mean(values, level=0.9, resamples=200, seed=1).low)


def test_quantities_are_resampled_with_the_same_images() -> None:
    values = np.random.default_rng(0).random((40, 1))
    interval = bootstrap_mean(np.hstack([values, values + 5]), level=0.95, resamples=300, seed=0)
    assert interval.low[1] - interval.low[0] == pytest.approx(5)


@pytest.mark.parametrize("values", [np.zeros((1, 3)), np.zeros(5), np.array([[1.0], [np.nan]])])
def test_useless_input_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"needed|not finite"):
        bootstrap_mean(values, level=0.95, resamples=10, seed=0)
