"""Frequencies in the tokens of a block (Figures 8 and 11)."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from cl_vs_mim.metrics.register import metric

_EPS = 1e-6  # inside the logarithm, as in the paper's notebook


def frequencies(grid: int) -> Tensor:
    """The frequencies of the half diagonal, in units of pi: 0, 2/g, 4/g … below 1; float64, (ceil(g/2),).

    On an even grid Nyquist is not among them: the last is 6/7 at g = 14.
    """
    return 2 * torch.arange(math.ceil(grid / 2), dtype=torch.float64) / grid


def relative_log_amplitude(tokens: Tensor) -> Tensor:
    """Log amplitude along the half diagonal of the 2-D spectrum, relative to frequency 0.

    ``log(abs(FFT2) + 1e-6)`` of every channel's token map, mean over images and channels, at the frequencies (u, u)
    with u of :func:`frequencies`. Negative values: less amplitude than the mean has (Fig. 8; the sign comment in
    the published notebook is reversed).

    Args:
        tokens: (B, 1+N, D), CLS first; it is dropped.

    Returns:
        (F,), the first being 0; float32, or float64 for float64 tokens.

    Raises:
        ValueError: the tokens have another shape, or the patches do not form a square.
    """
    return relative_log_amplitudes(tokens).mean(0)


@metric(
    table="fourier",
    takes="tokens",
    per="frequency",
    unit="natural logarithm",
    figure="8, 11",
    name="relative_log_amplitude",
)
def relative_log_amplitudes(tokens: Tensor) -> Tensor:
    """Relative log amplitudes of each image: (B, 1+N, D) -> (B, F)."""
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        raise ValueError(f"tokens (batch, 1+N, channels) are needed, not {tuple(tokens.shape)}")
    grid = math.isqrt(tokens.shape[1] - 1)
    if grid**2 != tokens.shape[1] - 1:
        raise ValueError(f"{tokens.shape[1] - 1} patch tokens do not form a square grid")
    if tokens.dtype != torch.float64:
        tokens = tokens.float()
    patches = tokens[:, 1:]
    mean = patches.mean(1, keepdim=True)  # (B, 1, D)
    zero = (grid**2 * mean).abs()
    # Only the points wanted, as one product with waves along the diagonal, and not the whole g x g transform. The mean
    # is no part of them; without it, rounding stays far below eps also where a map is nearly constant.
    waves = _waves(grid, tokens.device, tokens.dtype)  # (2(F-1), N)
    real, imaginary = (waves @ (patches - mean)).chunk(2, dim=1)  # (B, F-1, D) each
    amplitude = torch.cat([zero, torch.hypot(real, imaginary)], dim=1)  # (B, F, D)
    logs = (amplitude + _EPS).log().mean(-1)
    return logs - logs[:, :1]


@lru_cache(maxsize=16)
def _waves(grid: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(2(F-1), N): cosines, then sines, of (u, u), u > 0. A function of its arguments alone, hence kept."""
    with torch.inference_mode(False):
        index = torch.arange(grid)
        turns = (index[:, None] + index[None]).flatten() * torch.arange(1, math.ceil(grid / 2))[:, None] % grid
        angle = 2 * math.pi * turns.double() / grid  # (F-1, N)
        return torch.cat([angle.cos(), angle.sin()]).to(device, dtype)
