"""From a contrast of ``claims.yaml`` and the tables of a study to its effect and interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cl_vs_mim.artifacts import read_table
from cl_vs_mim.audit.bootstrap import Effect, bootstrap_effect
from cl_vs_mim.audit.claims import Contrast, Term
from cl_vs_mim.audit.verdict import Measured
from cl_vs_mim.config import Bootstrap, Study
from cl_vs_mim.errors import UserError
from cl_vs_mim.workflow import run_name

_ALL_HEADS = -1  # rows of this head are values of all heads together
_REDUCE = {
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}

# ------------------------------------------------------------------------------------------------
# Values
# ------------------------------------------------------------------------------------------------


def model_of(study: Study, name: str) -> str:
    """The model that a term means: ``cl`` and ``mim`` are the study's pair.

    Raises:
        UserError: the study has no such model.
    """
    name = dict(zip(("cl", "mim"), study.figures.pair, strict=True)).get(name, name)
    if name not in study.models:
        raise UserError(f"the study has no model {name!r}")
    return name


def control_of(study: Study, model: str) -> str:
    """The untrained encoder of a model's architecture."""
    return f"untrained_{study.models[model].architecture}"


def table_values(study: Study, tables: Path, model: str, contrast: Contrast) -> tuple[pd.Index, np.ndarray]:
    """Depths, and values (S, M, D) of an encoder over seeds, images (by name) and depths; heads are averaged.

    Raises:
        UserError: a table is missing, lacks what the contrast asks for, or has images or depths of some seeds only.
    """
    seeds = study.models[model].seeds if model in study.models else study.analysis.control_seeds
    arrays, axes = [], None
    for seed in seeds:
        path = tables / contrast.table / f"{run_name(model, seed)}.parquet"
        if not path.exists():
            raise UserError(f"there is no table {contrast.table} of {model}, seed {seed}")
        frame = _chosen(read_table(path), contrast, path)
        pivot = frame.pivot_table(index="image", columns="depth", values="value", aggfunc="mean", observed=True)
        pivot = pivot.sort_index()
        if pivot.isna().any(axis=None) or (axes is not None and not all(map(pd.Index.equals, axes, pivot.axes))):
            raise UserError(f"{path} has not the same images and depths as the table of another seed, or gaps")
        axes = axes or pivot.axes
        arrays.append(pivot.to_numpy(dtype=np.float64))
    return axes[1], np.stack(arrays)


def _chosen(frame: pd.DataFrame, contrast: Contrast, path: Path) -> pd.DataFrame:
    if missing := [name for name in ("image", "depth", "value", *contrast.where) if name not in frame]:
        raise UserError(f"{path} has no column {', '.join(missing)}")
    for column, value in contrast.where.items():
        frame = frame[frame[column] == value]
    if contrast.rank_fraction is not None:
        frame = frame[frame["rank"] == max(1, round(contrast.rank_fraction * frame["rank"].max()))]
    if contrast.highest_frequency:
        frame = frame[frame["frequency"] == frame["frequency"].max()]
    if frame.empty:
        raise UserError(f"{path} has no rows of {contrast.where}")
    return frame


# ------------------------------------------------------------------------------------------------
# Effects
# ------------------------------------------------------------------------------------------------


def reduce_depths(depths: np.ndarray, values: np.ndarray, term: Term) -> float:
    """One number from values (D,) at ``depths`` (D,), as the term says."""
    span = depths[-1] - depths[0]
    relative = (depths - depths[0]) / span if span > 0 else np.ones(len(depths))
    inside = (relative >= term.depths[0] - 1e-9) & (relative <= term.depths[1] + 1e-9)
    return float(_REDUCE[term.over](values[inside]))


def measure(study: Study, tables: Path, contrast: Contrast, about_training: bool, bootstrap: Bootstrap) -> Measured:
    """Effect of the trained encoders, and what of it exceeds the untrained ones.

    Raises:
        UserError: tables or models are missing; the message says which.
    """
    more, less = model_of(study, contrast.more.model), model_of(study, contrast.less.model)
    trained, depths = _read(study, tables, {more, less}, contrast)

    def difference(means: Mapping[str, np.ndarray], high: str, low: str) -> float:
        return reduce_depths(depths[high], means[high], contrast.more) - reduce_depths(
            depths[low], means[low], contrast.less
        )

    options = {"level": bootstrap.level, "resamples": bootstrap.resamples, "seed": bootstrap.seed}
    effect = bootstrap_effect(trained, lambda m: difference(m, more, less), margin=contrast.margin, **options)
    beyond: Effect | None = None
    if about_training:
        high, low = control_of(study, more), control_of(study, less)
        untrained, control_depths = _read(study, tables, {high, low}, contrast)
        depths |= control_depths
        beyond = bootstrap_effect(
            trained | untrained,
            lambda m: difference(m, more, less) - difference(m, high, low),
            margin=0.0,
            **options,
        )
    seeds = min(len(values) for values in trained.values())
    return Measured(contrast.name, contrast.margin, effect, beyond, seeds)


def _read(
    study: Study, tables: Path, models: set[str], contrast: Contrast
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    values, depths = {}, {}
    for model in sorted(models):
        index, values[model] = table_values(study, tables, model, contrast)
        depths[model] = index.to_numpy(dtype=np.float64)
    if len({array.shape[1] for array in values.values()}) > 1:
        raise UserError(f"tables {contrast.table} of {' and '.join(sorted(models))} are of different images")
    return values, depths
