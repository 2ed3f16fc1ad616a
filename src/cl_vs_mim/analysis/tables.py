"""Measured values as tidy tables: one row, one value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.analysis.metrics import Measurement
from cl_vs_mim.analysis.queries import Patch
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.metrics.attention import attention_rows
from cl_vs_mim.metrics.fourier import frequencies
from cl_vs_mim.metrics.layouts import MEASURED


def values_table(
    array: np.ndarray,
    names: list[str],
    depths: np.ndarray,
    axis: str | None = None,
    places: np.ndarray | None = None,
) -> pd.DataFrame:
    """Rows of image and depth, and of the last axis if there is one, from (M, S) or (M, S, K).

    Args:
        array: the values.
        names: the M images' names.
        depths: the S depths.
        axis: name of the last axis as a column.
        places: its K values; 0 … K-1 by default.
    """
    image, depth, *rest = (index.ravel() for index in np.indices(array.shape, dtype=np.int32))
    frame = {"image": pd.Categorical.from_codes(image, names), "depth": depths[depth]}
    if axis is not None:
        frame[axis] = places[rest[0]] if places is not None else rest[0]
    return pd.DataFrame(frame | {"value": array.ravel()})


def measured_table(measurement: Measurement, table: str, names: list[str], grid: int) -> pd.DataFrame:
    """All metrics of one table: rows of metric, image, depth and of its further axis, as its layout has them.

    Args:
        measurement: after the pass.
        table: one of :data:`cl_vs_mim.metrics.layouts.MEASURED`.
        names: the M images' names.
        grid: patches along a side, which decide the frequencies.
    """
    layout, metrics = MEASURED[table], measurement.of_table(table)
    frames = []
    for metric in metrics:
        array, depths = measurement.result(metric)
        axis = layout.axis if array.ndim == 3 else None
        depths = depths.astype(np.int32) if layout.whole else depths
        frame = values_table(array, names, depths, axis, _places(axis, array.shape[-1], grid))
        if layout.named:
            frame["metric"] = pd.Categorical([metric] * len(frame), categories=metrics)
        if layout.axis == "head" and axis is None:
            frame = frame.assign(head=np.int32(-1))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _places(axis: str | None, count: int, grid: int) -> np.ndarray | None:
    """The values of a table's further axis; None for 0 … K-1."""
    if axis == "rank":
        return np.arange(1, count + 1, dtype=np.int32)
    return frequencies(grid).numpy() if axis == "frequency" else None


@torch.inference_mode()
def maps_table(encoder: Encoder, pixels: Tensor, queries: list[Patch]) -> pd.DataFrame:
    """Rows of block, head (-1: the mean over heads), query and key patch: where two patches look (Fig. 2).

    Args:
        encoder: in evaluation mode.
        pixels: (3, S, S) uint8.
        queries: (row, column) each.
    """
    device = next(encoder.parameters()).device
    tokens = encoder.embed(normalise(pixels[None].to(device)))
    rows = [attention_rows(trace.attention, queries)[0].double().cpu() for trace in encoder.trace(tokens)]
    rows = torch.stack(rows)  # (L, H, Q, grid, grid)
    rows = torch.cat([rows.mean(1, keepdim=True), rows], dim=1).numpy()  # the mean over heads first
    block, head, query, key_row, key_col = (axis.ravel() for axis in np.indices(rows.shape, dtype=np.int32))
    places = np.array(queries, dtype=np.int32)
    return pd.DataFrame(
        {
            "depth": block + 1,
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
