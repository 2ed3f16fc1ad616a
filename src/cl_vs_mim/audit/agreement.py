"""How our curves over depth lie to the published ones: order and distance. Never a verdict.

Depths are aligned as shares of the whole, ours interpolated to the published ones. The error of reading the published
values off a picture is carried along: every resample also draws them anew within it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from cl_vs_mim.audit.bootstrap import Resampling, means, summarise
from cl_vs_mim.audit.claims import Curve
from cl_vs_mim.audit.contrasts import Contrast, Term
from cl_vs_mim.audit.estimate import Effect
from cl_vs_mim.audit.series import Tables, model_of, source_of
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import read_table

_LEAST = 3  # points, below which an order says nothing


@dataclass(frozen=True)
class Agreement:
    """How well a curve of ours agrees with the published one."""

    name: str
    figure: str
    model: str
    points: int
    rank_correlation: Effect  # Spearman's, 1: the same order of depths
    distance: Effect  # root mean square difference over the published curve's range; 0: the same values


def published_points(reference: Path, curve: Curve) -> pd.DataFrame:
    """Columns ``depth value`` of a published curve.

    Raises:
        UserError: the table has no such curve.
    """
    rows = read_table(reference)
    rows = rows[(rows["figure"] == curve.figure) & (rows["method"] == curve.method)]
    if curve.panel:
        rows = rows[rows["panel"] == curve.panel]
    points = pd.DataFrame({"depth": pd.to_numeric(rows["x"]), "value": pd.to_numeric(rows["y"])}).sort_values("depth")
    points = points[points["depth"].between(*curve.depths)]
    if len(points) < _LEAST:
        raise UserError(f"{reference} has no curve of {curve.method} in {curve.figure} {curve.panel}".rstrip())
    return points


def agree(tables: Tables, curve: Curve, reference: Path, resampling: Resampling, level: float) -> Agreement:
    """Rank correlation and distance of one curve, with intervals.

    Raises:
        UserError: a table or the published curve is missing, or ours has no shape.
    """
    model = model_of(tables.study, curve.model)
    contrast = Contrast(
        name=curve.name,
        table=curve.table,
        where=curve.where,
        highest_frequency=curve.highest_frequency,
        per_uniform=curve.per_uniform,
        more=[Term(model=curve.model)],
    )
    series = tables.series(model, source_of(contrast, contrast.more[0]))
    points = published_points(reference, curve)
    theirs = points["value"].to_numpy()
    ours_at, places = aligned(series.depths, points["depth"].to_numpy())
    noise = np.random.default_rng([resampling.seed, len(theirs)])
    shaken = theirs + noise.uniform(-curve.reading_error, curve.reading_error, (resampling.resamples, len(theirs)))
    drawn = np.stack([np.interp(places, ours_at, row) for row in curve.scale * resampling.draws(series)])
    value = np.interp(places, ours_at, curve.scale * means(series))
    return Agreement(
        curve.name,
        curve.figure,
        model,
        len(theirs),
        summarise(float(_rank_correlation(value, theirs)), _rank_correlation(drawn, shaken), level=level),
        summarise(float(_distance(value, theirs)), _distance(drawn, shaken), level=level),
    )


def aligned(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both depths as shares of the whole; where either begins at the embedding, block k of L is k / L on both sides."""
    if min(ours[0], theirs[0]) == 0:
        return ours / ours[-1], theirs / theirs[-1]
    return (ours - ours[0]) / (ours[-1] - ours[0]), (theirs - theirs[0]) / (theirs[-1] - theirs[0])


def _rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Spearman's (...,) of curves (..., P)."""
    if (np.ptp(ours, axis=-1) == 0).any():
        raise UserError("our curve is flat, so it has no order")
    ranks = [stats.rankdata(curve, axis=-1) for curve in (ours, theirs)]
    centred = [one - one.mean(axis=-1, keepdims=True) for one in ranks]
    norms = [np.sqrt(np.square(one).sum(axis=-1)) for one in centred]
    return (centred[0] * centred[1]).sum(axis=-1) / (norms[0] * norms[1])


def _distance(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Root mean square difference over the range of theirs (...,) of curves (..., P)."""
    return np.sqrt(np.square(ours - theirs).mean(axis=-1)) / np.ptp(theirs, axis=-1)
