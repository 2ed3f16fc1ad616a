"""Band noise: its power lies in the band, its norm is exact, and it belongs to the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cl_vs_mim.transfer.robustness.noise import band_noise, noise_for_images, ring


def radius(size: int) -> np.ndarray:
    """Chebyshev distance from the mean in the centred spectrum, in units of pi."""
    steps = 2 * np.abs(np.fft.fftfreq(size))
    return np.maximum(steps[:, None], steps[None])


@pytest.mark.parametrize("size", [48, 33, 224])
@pytest.mark.parametrize(("frequency", "width"), [(0.1, 0.1), (0.5, 0.2), (0.9, 0.2)])
def test_the_power_lies_in_the_band_and_the_norm_is_exact(size, frequency, width):
    noise = band_noise(3, size, frequency, width, 0.07, torch.Generator().manual_seed(0)).numpy()
    assert noise.shape == (3, 3, size, size) and noise.dtype == np.float32
    np.testing.assert_allclose(np.sqrt((noise.astype(float) ** 2).mean((1, 2, 3))), 0.07, rtol=1e-5)
    power = np.abs(np.fft.fft2(noise)) ** 2
    outside = np.abs(radius(size) - frequency) > width / 2 + 1e-6
    assert power[..., outside].sum() < 1e-8 * power.sum()
    assert np.abs(noise.mean((2, 3))).max() < 1e-6, "the mean of the image is left alone"
    inside = power.mean((0, 1))[~outside]
    assert (inside > 0).mean() > 0.5, "spread over the band, not on one frequency"


def test_noise_is_white_within_the_band():
    power = np.abs(np.fft.fft2(band_noise(400, 16, 0.5, 0.5, 0.1, torch.Generator().manual_seed(1)).numpy())) ** 2
    inside = power.mean((0, 1))[ring(16, 0.5, 0.5).numpy()]
    assert inside.std() / inside.mean() < 0.1


def test_touching_bands_share_nothing_and_are_all_frequencies_but_the_mean():
    bands = [ring(48, centre / 10, 0.1) for centre in range(1, 10)] + [ring(48, 0.025, 0.05), ring(48, 0.98, 0.06)]
    total = torch.stack(bands).sum(0)
    assert total.max() == 1
    missing = (total == 0).nonzero().tolist()
    assert missing == [[0, 0]]
    assert not ring(48, 0.0, 0.5)[0, 0]


def test_a_band_without_a_frequency_is_refused():
    with pytest.raises(ValueError, match=r"an image of 16 px has no frequency in 0.2 pi ± 0.02 pi; .* 0.125 pi apart"):
        ring(16, 0.2, 0.04)


def test_an_image_has_its_noise_whatever_the_batch():
    arguments = (16, 0.5, 0.3, 0.1, 7)
    together = noise_for_images([0, 1, 2, 3], *arguments)
    apart = torch.cat([noise_for_images([place], *arguments) for place in range(4)])
    torch.testing.assert_close(together, apart)
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(together, noise_for_images([0, 1, 2, 3], 16, 0.5, 0.3, 0.1, 8))
