"""The published curves, to be drawn faintly behind ours. Where none was recovered, there is none."""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.figures.tables import relative_depth

_COLUMNS = ["panel", "method", "model", "depth", "relative_depth", "value", "source", "confidence"]


def published_curves(reference: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Rows of ``reference_values.csv`` for one figure, by depth.

    Args:
        reference: the table of published and digitised values.
        figure: its name there, such as ``notebook_fig3``.

    Returns:
        columns ``panel method model depth relative_depth value source confidence``; no rows where nothing was
        recovered.
    """
    rows = reference[reference["figure"] == figure].copy()
    rows["depth"] = pd.to_numeric(rows["x"])
    rows["value"] = pd.to_numeric(rows["y"])
    deepest = rows.groupby("method")["depth"].transform("max")
    rows["relative_depth"] = [relative_depth(*pair) for pair in zip(rows["depth"], deepest, strict=True)]
    return rows[_COLUMNS].reset_index(drop=True)


def with_lambda(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column ``lambda``: the λ of a published hybrid, NaN for other methods.

    The reference table names hybrids ``CL+MIM hybrid lambda=0.2``; nothing else reads that name.
    """
    found = rows["method"].astype("string").str.extract(r"hybrid lambda=([\d.]+)$", expand=False)
    return rows.assign(**{"lambda": pd.to_numeric(found).astype("float64")})
