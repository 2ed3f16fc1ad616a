"""Spectra of matrices whose singular values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cl_vs_mim.metrics.spectrum import (
    FLOOR,
    bootstrap_image_spectrum,
    image_log_singular_values,
    image_log_singular_values_of,
    token_log_singular_values,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(values: list[float], count: int, width: int, seed: int = 0) -> torch.Tensor:
    """(count, width) centred rows whose covariance has these eigenvalues and otherwise zeros."""
    basis = torch.linalg.qr(torch.cat([torch.ones(count, 1), draw(count, len(values), seed=seed)], dim=1))[0][:, 1:]
    turn = torch.linalg.qr(draw(width, width, seed=seed + 1))[0][: len(values)]
    return basis @ torch.diag((torch.tensor(values) * (count - 1)).sqrt().double()) @ turn


@pytest.mark.parametrize(("batch", "count", "width"), [(1, 4, 3), (3, 9, 20), (2, 36, 8), (2, 16, 16)])
def test_the_spectrum_is_that_of_numpys_covariance(batch, count, width):
    tokens = draw(batch, 1 + count, width)
    ranks = min(count, width) - 1
    found = token_log_singular_values(tokens)
    assert found.shape == (batch, ranks) and found.dtype == torch.float64
    for image, values in zip(tokens.numpy(), found.numpy(), strict=True):
        wanted = np.linalg.svd(np.cov(image[1:], rowvar=False), compute_uv=False)[:ranks]
        np.testing.assert_allclose(values, np.log(wanted), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("count", "width"), [(16, 6), (6, 16)])
def test_known_values_and_the_mean_does_not_matter(count, width):
    values = [8.0, 2.0, 0.5]
    rows = with_spectrum(values, count, width) + 100
    tokens = torch.cat([torch.full((1, width), 7.0, dtype=torch.float64), rows])[None]
    found = token_log_singular_values(tokens)[0]
    np.testing.assert_allclose(found[:3], np.log(values), atol=1e-6)
    np.testing.assert_allclose(found[3:], math.log(8 * FLOOR), atol=1e-6)  # rank 3: a flat end, no noise


def test_scale_turn_and_order_of_the_tokens():
    tokens = draw(2, 17, 8)
    base = token_log_singular_values(tokens)
    torch.testing.assert_close(token_log_singular_values(3 * tokens), base + 2 * math.log(3))
    turn = torch.linalg.qr(draw(8, 8, seed=3))[0]
    torch.testing.assert_close(token_log_singular_values(tokens @ turn), base)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(16)])
    torch.testing.assert_close(token_log_singular_values(tokens[:, order]), base)


def test_equal_tokens_give_a_finite_value():
    assert token_log_singular_values(torch.ones(1, 10, 4)).isfinite().all()


def test_a_value_that_is_not_finite_stays_so_for_its_image_alone():
    tokens = draw(2, 10, 4)
    tokens[1, 3, 2] = torch.nan
    found = token_log_singular_values(tokens)
    assert found[0].isfinite().all() and found[1].isnan().all()


def test_the_image_level_is_that_of_the_mean_tokens():
    tokens = draw(12, 10, 5)
    pooled = tokens[:, 1:].mean(1)
    wanted = np.log(np.linalg.eigvalsh(np.cov(pooled.numpy(), rowvar=False))[::-1][:4])
    np.testing.assert_allclose(image_log_singular_values(tokens), wanted, rtol=1e-6)
    np.testing.assert_allclose(image_log_singular_values_of(pooled), wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_is_reduced_in_float64(dtype):
    tokens = draw(2, 17, 8).to(dtype)
    found = token_log_singular_values(tokens)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, token_log_singular_values(tokens.double()))


def test_other_shapes_are_refused():
    for shape in ((5, 3), (1, 2, 4), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="are needed"):
            token_log_singular_values(draw(*shape))
    with pytest.raises(ValueError, match="two images"):
        image_log_singular_values(draw(1, 5, 3))
    with pytest.raises(ValueError, match="two channels"):
        token_log_singular_values(draw(1, 5, 1))


def test_the_interval_is_of_the_estimate_and_repeats():
    pooled = draw(50, 6)
    value, low, high = bootstrap_image_spectrum(pooled, level=0.95, resamples=100, seed=1)
    np.testing.assert_allclose(value, image_log_singular_values_of(pooled))
    assert (low < value).all() and (value < high).all()
    np.testing.assert_array_equal(low, bootstrap_image_spectrum(pooled, level=0.95, resamples=100, seed=1)[1])
    assert not np.array_equal(low, bootstrap_image_spectrum(pooled, level=0.95, resamples=100, seed=2)[1])
    wide = bootstrap_image_spectrum(draw(12, 6), level=0.95, resamples=100, seed=1)
    assert (wide[2] - wide[1])[0] > (high - low)[0], "fewer images, wider interval"


@pytest.mark.slow
def test_the_interval_covers_the_true_value_about_as_often_as_it_says():
    true = torch.tensor([9.0, 3.0, 1.0, 0.3], dtype=torch.float64)
    covered = np.zeros(3)
    runs = 300
    for run in range(runs):
        pooled = draw(200, 4, seed=run) * true.sqrt()
        _, low, high = bootstrap_image_spectrum(pooled, level=0.9, resamples=150, seed=run)
        covered += (low <= true.log().numpy()[:3]) & (true.log().numpy()[:3] <= high)
    share = covered / runs  # standard error 0.017
    assert (share > 0.83).all() and (share < 0.96).all(), share
