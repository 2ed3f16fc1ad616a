"""Measured values as tidy tables: one row, one value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.analysis.attention import attention_rows
from cl_vs_mim.analysis.queries import Patch
from cl_vs_mim.artifacts import with_head
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder import Encoder


def values_table(values: Mapping[str, np.ndarray], names: list[str]) -> pd.DataFrame:
    """Rows of metric, image, depth and head from (M, L, H) arrays."""
    frames = []
    for metric, array in values.items():
        image, depth, head = (axis.ravel() for axis in np.indices(array.shape, dtype=np.int32))
        frame = {
            "image": pd.Categorical.from_codes(image, names),
            "depth": depth + 1,
            "head": head,
            "metric": pd.Categorical([metric] * array.size, categories=list(values)),
            "value": array.ravel(),
        }
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


@torch.inference_mode()
def maps_table(encoder: Encoder, pixels: Tensor, block: int, queries: list[Patch]) -> pd.DataFrame:
    """Rows of head, query and key patch: where two patches look in one block (Fig. 2).

    Args:
        encoder: in evaluation mode.
        pixels: (3, S, S) uint8.
        block: 0 … L-1.
        queries: (row, column) each.
    """
    device = next(encoder.parameters()).device
    tokens = encoder.embed(normalise(pixels[None].to(device)))
    trace = next(trace for trace in encoder.trace(tokens) if trace.block == block)
    rows = attention_rows(trace.attention, queries)[0].double().cpu()  # (H, Q, grid, grid)
    rows = torch.cat([rows.mean(0, keepdim=True), rows]).numpy()  # the mean over heads first
    head, query, key_row, key_col = (axis.ravel() for axis in np.indices(rows.shape, dtype=np.int32))
    places = np.array(queries, dtype=np.int32)
    return pd.DataFrame(
        {
            "depth": np.int32(block + 1),
            "head": head - 1,
            "query": query,
            "query_row": places[query, 0],
            "query_col": places[query, 1],
            "key_row": key_row,
            "key_col": key_col,
            "value": rows.ravel(),
        }
    )


def pixels_table(pixels: Tensor) -> pd.DataFrame:
    """Rows of pixel, from (3, S, S) uint8."""
    row, col = (axis.ravel() for axis in np.indices(pixels.shape[1:], dtype=np.int32))
    red, green, blue = pixels.flatten(1).numpy()
    return pd.DataFrame({"row": row, "col": col, "red": red, "green": green, "blue": blue})


def with_columns(frame: pd.DataFrame, constants: Mapping[str, Any]) -> pd.DataFrame:
    """Constant columns in front; strings as categories."""
    strings = {name: value for name, value in constants.items() if isinstance(value, str)}
    for name, value in constants.items():
        if name not in strings:
            frame = frame.assign(**{name: np.int32(value)})
    return with_head(frame, strings)
