"""One number per encoder and task, with its interval: what Figures 1 and 12 and the tables of results share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from cl_vs_mim.config import Bootstrap
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.intervals import bootstrap_mean
from cl_vs_mim.core.tables import HEAD
from cl_vs_mim.figures.tables import SERIES

CLASSIFICATION = ("image", "labels", "classes", "split", "depth", "pooling", "metric", "value", "protocol", "chance")
DENSE = ("task", "metric", "category", "value")
_SPLIT = "val"

# ------------------------------------------------------------------------------------------------
# From tables
# ------------------------------------------------------------------------------------------------


def classification_scores(frame: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """Top-1 in per cent of every encoder on the validation images, from tables of the fine-tuned or probed.

    Raises:
        UserError: rows of several protocols or kinds of label, or on different images.
    """
    frame = frame[frame["split"] == _SPLIT]
    for column in ("labels", "classes", "protocol"):
        if len(values := sorted(map(str, frame[column].unique()))) > 1:
            raise UserError(f"results of different {column} ({', '.join(values)}) do not compare; rebuild them")
    first = frame["model"].iloc[0]
    images = set(frame.loc[frame["model"] == first, "image"])
    for model, group in frame.groupby("model", sort=False):
        if set(group["image"]) != images:
            raise UserError(f"tables of {first} and {model} are of different images; rebuild them")
    kept = ["labels", "classes", "protocol", "depth", "pooling", "chance"]
    return _scored(frame.assign(value=100 * frame["value"]), bootstrap, kept)


def dense_scores(frame: pd.DataFrame, task: str, metric: str, bootstrap: Bootstrap) -> pd.DataFrame:
    """One metric over all categories, per cent, of every encoder, from tables of detection or segmentation."""
    frame = frame[(frame["task"] == task) & (frame["metric"] == metric) & (frame["category"] == "all")]
    if frame.empty:
        raise UserError(f"no table has {metric} of task {task!r}; rebuild them")
    return _scored(frame, bootstrap, ["task", "metric"])


# ------------------------------------------------------------------------------------------------
# Intervals
# ------------------------------------------------------------------------------------------------


def _scored(frame: pd.DataFrame, bootstrap: Bootstrap, kept: list[str]) -> pd.DataFrame:
    """A row per encoder: mean over seeds, and its interval.

    With two seeds or more, Student's t over the seeds; with one, a bootstrap over images, which says nothing of what
    another training would give; without images, none. ``interval`` says which.
    """
    rows = []
    for _, group in frame.groupby("model", sort=False):
        by_seed = group.groupby("seed")["value"].mean()
        low = high = np.nan
        kind = "none"
        if len(by_seed) > 1:
            kind, half = "seeds", stats.t.ppf((1 + bootstrap.level) / 2, len(by_seed) - 1) * stats.sem(by_seed)
            low, high = by_seed.mean() - half, by_seed.mean() + half
        elif "image" in group and len(group) > 1:
            kind = "images"
            values = group.groupby("image")["value"].mean().to_numpy()[:, None]
            found = bootstrap_mean(values, level=bootstrap.level, resamples=bootstrap.resamples, seed=bootstrap.seed)
            low, high = found.low[0], found.high[0]
        constants = group.iloc[0][[*SERIES, *kept]].to_dict()
        if "parameters" in group:
            constants["parameters"] = int(group["parameters"].iloc[0])
        constants |= {name: " | ".join(map(str, group[name].unique())) for name in HEAD}
        images = group["image"].nunique() if "image" in group else np.nan
        counts = {"interval": kind, "seeds": len(by_seed), "images": images}
        rows.append(constants | {"value": by_seed.mean(), "low": low, "high": high} | counts)
    return pd.DataFrame(rows)


def side_by_side(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """Encoders that have both scores, one row each, with the columns ``x…`` of the first and the second's as ``y…``."""
    columns = ["value", "low", "high", "interval"]
    left = x[["model", *columns]].rename(columns={name: f"x_{name}" for name in columns})
    right = y.rename(columns={name: f"y_{name}" for name in columns})
    return right.merge(left, on="model", how="inner", sort=False)
