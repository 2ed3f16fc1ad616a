"""The published curves, to be drawn faintly behind ours. Where none was recovered, there is none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cl_vs_mim.core.tables import read_table
from cl_vs_mim.figures.tables import relative_depth

_COLUMNS = ["panel", "method", "model", "depth", "relative_depth", "value", "source", "confidence"]


def published_curves(path: Path, figure: str) -> pd.DataFrame:
    """Rows of ``reference_values.csv`` for one figure, by depth.

    Args:
        path: the table of published and digitised values.
        figure: its name there, such as ``notebook_fig3``.

    Returns:
        columns ``panel method model depth relative_depth value source confidence``; no rows where nothing was
        recovered.
    """
    table = read_table(path)
    rows = table[table["figure"] == figure].copy()
    rows["depth"] = pd.to_numeric(rows["x"])
    rows["value"] = pd.to_numeric(rows["y"])
    deepest = rows.groupby("method")["depth"].transform("max")
    rows["relative_depth"] = [relative_depth(*pair) for pair in zip(rows["depth"], deepest, strict=True)]
    return rows[_COLUMNS].reset_index(drop=True)
