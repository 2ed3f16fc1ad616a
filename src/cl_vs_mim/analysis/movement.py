"""Coordinates of an image's tokens before and after self-attention, in a plane of singular vectors (Figure 6).

The paper's figure shows tokens before and after in a plane of leading singular vectors; image, blocks and basis are
UNKNOWN and come from the YAML. The numbers beside it are those of :mod:`cl_vs_mim.metrics.movement`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import Encoder

_AXES = ("x", "y", "z")


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
        names: the two images' names.
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
    pairs["network"] = (0, encoder.spec.depth, encoder.cls_and_patches(embedding), last)

    panels = {
        (place, count): np.stack([tokens[:count, 1:].double().cpu().numpy() for tokens in (before, after)])
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
