"""Frequencies in the tokens of a block (Figure 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPS = 1e-6  # inside the logarithm, as in the paper's notebook


def relative_log_amplitude(tokens: Tensor) -> Tensor:
    """Log amplitude along the half diagonal of the 2-D spectrum, relative to frequency 0.

    ``log(abs(FFT2) + 1e-6)`` of every channel's token map, mean over images and channels, at the frequencies
    (u, u), u = 0, 2π/g, 4π/g … below π for a grid of side g: ceil(g / 2) of them. On an even grid Nyquist is not among
    them; at g = 14 the last is 6π/7. Negative values: less amplitude than the mean has (Fig. 8; the sign comment
    in the published notebook is reversed).

    Args:
        tokens: (B, 1+N, D), CLS first; it is dropped.

    Returns:
        (F,), the first being 0; float32, or float64 for float64 tokens.

    Raises:
        ValueError: the tokens have another shape, or the patches do not form a square.
    """
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        raise ValueError(f"tokens (batch, 1+N, channels) are needed, not {tuple(tokens.shape)}")
    grid = math.isqrt(tokens.shape[1] - 1)
    if grid**2 != tokens.shape[1] - 1:
        raise ValueError(f"{tokens.shape[1] - 1} patch tokens do not form a square grid")
    if tokens.dtype != torch.float64:
        tokens = tokens.float()
    maps = tokens[:, 1:].transpose(1, 2).unflatten(-1, (grid, grid))  # (B, D, g, g)
    amplitude = torch.fft.fft2(maps).abs().diagonal(dim1=-2, dim2=-1)  # (B, D, g), frequency (u, u) at index u
    logs = (amplitude[..., : math.ceil(grid / 2)] + _EPS).log().mean((0, 1))
    return logs - logs[0]
