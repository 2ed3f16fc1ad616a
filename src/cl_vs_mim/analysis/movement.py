"""What self-attention does to the tokens of an image: moves all by one vector, or each on its own (Figure 6).

The paper's figure shows tokens before and after in a plane of leading singular vectors; image, blocks and basis are
UNKNOWN and come from the YAML. The two numbers here are made from its claims: C14 and C15 of the specification.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import Encoder

_AXES = ("x", "y", "z")

# ------------------------------------------------------------------------------------------------
# Numbers
# ------------------------------------------------------------------------------------------------


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


def token_mean(tokens: Tensor) -> Tensor:
    """Mean patch token of each image: (B, 1+N, D) -> (B, D)."""
    return _patches(tokens).mean(1)


def within_spread(tokens: Tensor) -> Tensor:
    """Root mean square distance of an image's patch tokens to their mean: (B, 1+N, D) -> (B,)."""
    patches = _patches(tokens)
    centred = patches - patches.mean(1, keepdim=True)
    return torch.linalg.vector_norm(centred, dim=(1, 2)) / math.sqrt(patches.shape[1])


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


# ------------------------------------------------------------------------------------------------
# Coordinates
# ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def movement_tokens_table(
    encoder: Encoder,
    pixels: Tensor,
    names: list[str],
    early: int,
    late: int,
    basis: Literal["joint", "separate"],
) -> pd.DataFrame:
    """Rows of panel and token: coordinates before and after (Fig. 6).

    Three places: the attention residual of an early and of a late block, and the whole network from the embedding
    to the last block's output. Each once with the first image alone (``count`` 1) and once with both (2).

    Args:
        encoder: in evaluation mode.
        pixels: (2, 3, S, S) uint8.
        names: of the two images.
        early: 0 … L-1.
        late: 0 … L-1.
        basis: one SVD of the centred tokens of all panels, or one for each panel.
    """
    device = next(encoder.parameters()).device
    embedding = encoder.embed(normalise(pixels.to(device)))
    pairs: dict[str, tuple[float, float, Tensor, Tensor]] = {}
    for trace in encoder.trace(embedding):
        for place, block in (("early", early), ("late", late)):
            if trace.block == block:
                pairs[place] = (block, block + 0.5, trace.before, trace.after_attention)
        last = trace.after_mlp
    pairs["network"] = (0, encoder.spec.depth, embedding, last)

    panels = {
        (place, count): np.stack([_patches(tokens[:count]).double().cpu().numpy() for tokens in (before, after)])
        for place, (_, _, before, after) in pairs.items()
        for count in (1, 2)
    }  # (when, image, N, D)
    shared = None if basis == "separate" else _basis([panels[place, 2] for place in pairs])
    frames = []
    for (place, count), tokens in panels.items():
        centre, axes = shared if shared is not None else _basis([tokens])
        coordinates = (tokens - centre) @ axes  # (when, image, N, 3)
        when, image, token = (axis.ravel() for axis in np.indices(coordinates.shape[:3]))
        row, col = np.divmod(token, encoder.spec.grid)
        frame = {
            "image": np.array(names)[image],
            "count": np.int32(count),
            "place": place,
            "depth_before": float(pairs[place][0]),
            "depth_after": float(pairs[place][1]),
            "when": np.array(["before", "after"])[when],
            "row": row.astype(np.int32),
            "col": col.astype(np.int32),
        }
        frame |= dict(zip(_AXES, coordinates.reshape(-1, len(_AXES)).T, strict=True))
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def _basis(panels: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) of all tokens and their three leading right singular vectors (D, 3), largest entry positive."""
    rows = np.concatenate([panel.reshape(-1, panel.shape[-1]) for panel in panels])
    centre = rows.mean(axis=0)
    vectors = np.linalg.svd(rows - centre, full_matrices=False)[2][: len(_AXES)]  # (3, D)
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1, keepdims=True), axis=1)
    return centre, (vectors * np.sign(largest)).T
