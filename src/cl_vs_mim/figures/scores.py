"""One number per encoder and task, with its interval: what Figures 1 and 12 and the tables of results share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from cl_vs_mim.config import Bootstrap
from cl_vs_mim.config.tasks import Score
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.intervals import bootstrap_mean
from cl_vs_mim.core.tables import HEAD
from cl_vs_mim.figures.tables import SERIES

CLASSIFICATION = ("image", "labels", "classes", "split", "depth", "pooling", "metric", "value", "protocol", "chance")
DENSE = ("task", "metric", "category", "value")
_COMPARED = ("labels", "classes", "protocol")  # one value for all encoders, where a table has the column
# Columns that a score's row keeps of its table, where it has them.
_KEPT = {"images": (*_COMPARED, "depth", "pooling", "chance"), "whole": ("task", "metric")}

# ------------------------------------------------------------------------------------------------
# From tables
# ------------------------------------------------------------------------------------------------


def columns_of(score: Score) -> tuple[str, ...]:
    """The columns that a score is made from."""
    own = {"images": ("image",), "whole": ()}[score.rows]
    return (*own, *score.where, "value", *filter(None, (score.chance,)))


def encoder_scores(score: Score, frame: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """The score of every encoder of its table, in its unit, with an interval.

    Raises:
        UserError: no rows are of the score; or those of a row per image are of several protocols or kinds of label,
            or of different images.
    """
    for column, value in score.where.items():
        frame = frame[frame[column] == value]
    if frame.empty:
        wanted = ", ".join(f"{column} {value!r}" for column, value in score.where.items())
        raise UserError(f"no table has {score.name} ({wanted}); rebuild them")
    if score.rows == "images":
        _check_comparable(frame)
    frame = frame.assign(value=score.factor * frame["value"])
    if score.chance is not None:
        frame = frame.assign(chance=frame[score.chance])
    return _scored(frame, bootstrap, [name for name in _KEPT[score.rows] if name in frame])


def _check_comparable(frame: pd.DataFrame) -> None:
    for column in (name for name in _COMPARED if name in frame):
        if len(values := sorted(map(str, frame[column].unique()))) > 1:
            raise UserError(f"results of different {column} ({', '.join(values)}) do not compare; rebuild them")
    first = frame["model"].iloc[0]
    images = set(frame.loc[frame["model"] == first, "image"])
    for model, group in frame.groupby("model", sort=False):
        if set(group["image"]) != images:
            raise UserError(f"tables of {first} and {model} are of different images; rebuild them")


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
