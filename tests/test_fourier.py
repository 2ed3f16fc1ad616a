"""The Fourier metric: the notebook's answer and waves of known frequency."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cl_vs_mim.metrics.fourier import frequencies, relative_log_amplitude, relative_log_amplitudes

ORACLE = np.load(Path(__file__).parent / "oracles" / "metrics.npz")


def tokens_of(maps: torch.Tensor) -> torch.Tensor:
    """(B, D, g, g) to (B, 1+N, D), with something in CLS that must not matter."""
    patches = maps.flatten(2).transpose(1, 2)
    return torch.cat([torch.full_like(patches[:, :1], 1e3), patches], dim=1)


def test_the_notebook_gives_the_same_values():
    found = relative_log_amplitude(torch.from_numpy(ORACLE["tokens"]))
    np.testing.assert_allclose(found, ORACLE["fourier_half_diagonal"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("grid", "count"), [(14, 7), (8, 4), (7, 4), (3, 2), (2, 1), (1, 1)])
def test_number_of_frequencies(grid, count):
    found = relative_log_amplitude(torch.randn(2, 1 + grid**2, 5))
    assert found.shape == (count,) and found[0] == 0


@pytest.mark.parametrize("grid", [5, 8, 14])
@pytest.mark.parametrize("frequency", [1, 2])
def test_a_diagonal_wave_has_its_amplitude_at_its_frequency_only(grid, frequency):
    place = torch.arange(grid, dtype=torch.float64)
    phase = 2 * math.pi * frequency * (place[:, None] + place[None]) / grid
    wave = 10.0 + 3.0 * torch.cos(phase)  # mean 10 -> |FFT| 10 N at 0; amplitude 3 -> 1.5 N at (u, u)
    found = relative_log_amplitude(tokens_of(wave.expand(2, 4, grid, grid)))
    expected = np.full(math.ceil(grid / 2), math.log(1e-6) - math.log(10 * grid**2))
    expected[0], expected[frequency] = 0, math.log(1.5 / 10)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_constant_map_has_nothing_above_frequency_zero():
    found = relative_log_amplitude(tokens_of(torch.full((1, 2, 8, 8), 0.5)))
    np.testing.assert_allclose(found[1:], math.log(1e-6) - math.log(0.5 * 64), atol=1e-4)


def test_scale_does_not_matter_and_the_mean_is_taken_of_logarithms():
    maps = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, two = (relative_log_amplitude(tokens_of(maps[:, [channel]])) for channel in (0, 1))
    torch.testing.assert_close(relative_log_amplitude(tokens_of(maps)), (one + two) / 2)
    scaled = relative_log_amplitude(tokens_of(maps * torch.tensor([5.0, 0.2]).view(1, 2, 1, 1)))
    torch.testing.assert_close(scaled, (one + two) / 2, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 13, 4), (10, 4), (1, 1, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError):
        relative_log_amplitude(torch.zeros(shape))


def test_images_are_kept_apart_and_their_mean_is_the_public_function():
    tokens = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0))
    apart = relative_log_amplitudes(tokens)
    assert apart.shape == (4, 4)
    torch.testing.assert_close(apart.mean(0), relative_log_amplitude(tokens))
    torch.testing.assert_close(apart[2], relative_log_amplitude(tokens[2:3]))


@pytest.mark.parametrize("grid", [2, 3, 6, 7, 14])
def test_it_is_the_diagonal_of_the_two_dimensional_transform(grid):
    maps = torch.randn(2, 3, grid, grid, dtype=torch.float64, generator=torch.Generator().manual_seed(grid))
    amplitude = np.abs(np.fft.fft2(maps.numpy()))
    count = math.ceil(grid / 2)
    logs = np.log(amplitude[..., range(count), range(count)] + 1e-6).mean(1)
    np.testing.assert_allclose(relative_log_amplitudes(tokens_of(maps)), logs - logs[:, :1], atol=1e-9)


@pytest.mark.parametrize(("grid", "last"), [(14, 6 / 7), (6, 2 / 3), (7, 6 / 7), (2, 0)])
def test_frequencies_are_exact_and_nyquist_is_not_among_them(grid, last):
    found = frequencies(grid)
    assert found[0] == 0 and found[-1] == pytest.approx(last) and (found < 1).all()
    np.testing.assert_allclose(np.diff(found), 2 / grid)


def test_the_order_of_channels_does_not_matter():
    tokens = torch.randn(2, 37, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(relative_log_amplitudes(tokens[..., torch.randperm(8)]), relative_log_amplitudes(tokens))


def test_bfloat16_tokens_are_reduced_in_float32():
    tokens = torch.randn(2, 37, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = relative_log_amplitudes(tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, relative_log_amplitudes(tokens.float()))
