"""Noise in a band of frequencies, added to images (Figure 9 b).

White Gaussian noise, restricted to a square ring of the centred two-dimensional spectrum: the frequencies whose larger
component, in units of pi radians per pixel, lies within half a width of the band's centre. 0 is the mean of the
image, 1 the Nyquist frequency of an axis; the corner of the spectrum has radius 1 as well. Centres and rings follow
the same first author's earlier test (arXiv 2202.06709, poster); amplitude and norm are UNKNOWN there. Here the noise of
every band has the same root mean square, so bands compare; pixels are not clipped to 0 … 1 afterwards, because clipping
would change the norm and leak out of the band.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cl_vs_mim.core.randomness import generator_for


def ring(size: int, frequency: float, width: float) -> Tensor:
    """Which frequencies of ``torch.fft.fft2`` belong to a band: (S, S) bool, never the mean.

    Args:
        size: side S of the image, px.
        frequency: centre of the band, in units of pi.
        width: width of the band, in units of pi.

    Raises:
        ValueError: no frequency of this size lies in the band.
    """
    steps = torch.fft.fftfreq(size, dtype=torch.float64).abs() * 2  # in units of pi, 0 … 1
    radius = torch.maximum(steps[:, None], steps[None])
    # Lower edge in, upper edge out: bands that touch share no frequency, and together they are all of them.
    chosen = (radius >= frequency - width / 2 - 1e-9) & (radius < frequency + width / 2 - 1e-9) & (radius > 0)
    if not chosen.any():
        raise ValueError(
            f"an image of {size} px has no frequency in {frequency:g} pi ± {width / 2:g} pi; its frequencies lie "
            f"{2 / size:.3g} pi apart, so take bands at least that wide"
        )
    return chosen


def band_noise(batch: int, size: int, frequency: float, width: float, rms: float, generator: torch.Generator) -> Tensor:
    """Noise for ``batch`` images, (B, 3, S, S) float32, each with root mean square ``rms`` exactly.

    Args:
        batch: number of images B.
        size: side S, px.
        frequency: centre of the band, in units of pi.
        width: width of the band, in units of pi.
        rms: root mean square over the pixels and channels of an image; pixels are 0 … 1.
        generator: on the CPU; makes the draw.

    Raises:
        ValueError: no frequency of this size lies in the band.
    """
    white = torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64)
    noise = torch.fft.ifft2(torch.fft.fft2(white) * ring(size, frequency, width)).real
    norm = noise.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (noise * (rms / norm)).float()


def noise_for_images(positions: list[int], size: int, frequency: float, width: float, rms: float, seed: int) -> Tensor:
    """:func:`band_noise` for the images at these positions, each from a generator of its own.

    An image gets the same noise whatever the batch it comes in, and the same white noise under every band.
    """
    noises = [
        band_noise(1, size, frequency, width, rms, generator_for(seed, "noise", position)) for position in positions
    ]
    return torch.cat(noises)
