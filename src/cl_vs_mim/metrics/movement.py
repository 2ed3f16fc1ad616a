"""What self-attention does to the tokens of an image: moves all by one vector, or each on its own (Figure 6).

The two numbers are made from the claims of the paper's text, C14 and C15 of the specification. CLS is dropped; float16
and bfloat16 tokens are reduced in float32.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.metrics.register import metric


@metric(table="movement", takes=("before", "after_attention"), range=(0, math.inf), figure="6")
def displacement_variation(before: Tensor, after: Tensor) -> Tensor:
    """Variance of the tokens' displacements over the squared length of their mean (claim C14).

    Args:
        before: (B, 1+N, D), CLS first; it is dropped.
        after: (B, 1+N, D).

    Returns:
        (B,); 0 where all tokens move by one vector, infinite where the displacements cancel.

    Raises:
        ValueError: shapes that differ.
    """
    if before.shape != after.shape or before.ndim != 3:
        raise ValueError(f"tokens before {tuple(before.shape)} and after {tuple(after.shape)} differ in shape")
    moved = _patches(after) - _patches(before)  # (B, N, D)
    mean = moved.mean(1, keepdim=True)
    spread = torch.linalg.vector_norm(moved - mean, dim=(1, 2)).square() / moved.shape[1]
    return spread / mean.square().sum(-1)[:, 0]


@metric(table="", takes="tokens", per="channel")
def token_mean(tokens: Tensor) -> Tensor:
    """Mean patch token of each image: (B, 1+N, D) -> (B, D)."""
    return _patches(tokens).mean(1)


@metric(table="", takes="tokens", range=(0, math.inf))
def within_spread(tokens: Tensor) -> Tensor:
    """Root mean square distance of an image's patch tokens to their mean: (B, 1+N, D) -> (B,)."""
    patches = _patches(tokens)
    centred = patches - patches.mean(1, keepdim=True)
    return torch.linalg.vector_norm(centred, dim=(1, 2)) / math.sqrt(patches.shape[1])


@metric(table="movement", takes=("token_mean", "within_spread"), range=(0, math.inf), figure="6")
def centroid_separation(means: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Distance between the mean tokens of an image and the next, in units of the spread within them (claim C15).

    Args:
        means: (M, D) of :func:`token_mean`.
        spreads: (M,) of :func:`within_spread`.

    Returns:
        (M,); the last image is paired with the first. Infinite where the tokens of both do not differ.

    Raises:
        ValueError: fewer than two images.
    """
    if len(means) < 2:
        raise ValueError("the separation of images needs two images or more")
    distances = np.linalg.norm(means - np.roll(means, -1, axis=0), axis=1)
    within = np.sqrt((spreads**2 + np.roll(spreads, -1) ** 2) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return distances / within


def _patches(tokens: Tensor) -> Tensor:
    patches = tokens[:, 1:]
    return patches if patches.dtype == torch.float64 else patches.float()
