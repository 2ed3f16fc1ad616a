"""Reading the tables of a figure, and the curves that are drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cl_vs_mim.config import Bootstrap, Study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.intervals import bootstrap_mean
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.figures.sources import GROUPS, Reference, Table

SERIES = ("model", "label", "method", "paradigm", "architecture")

# ------------------------------------------------------------------------------------------------
# Reading
# ------------------------------------------------------------------------------------------------


def read_frames(
    reads: Mapping[str, Table | Reference], study: Study, paths: Mapping[str, Sequence[Path]]
) -> dict[str, pd.DataFrame]:
    """Everything that a figure reads, by its names, checked and in the study's order of models.

    Args:
        reads: what a figure or a table of results reads.
        study: the study that the tables belong to.
        paths: the files behind each of ``reads``; none where an optional one is not there.

    Raises:
        UserError: a table is missing, empty, lacks a column, or is of another study, data set or encoder than asked.
    """
    frames = {}
    for name, source in reads.items():
        files = paths[name]
        if isinstance(source, Reference):
            frames[name] = read_table(*files)
        elif source.optional and not (files := [path for path in files if len(read_table(path))]):
            frames[name] = pd.DataFrame(columns=[*HEAD, *SERIES, "seed", *source.columns])
        elif source.measured:
            frames[name] = of_group(read_tables(files, source.columns, source.kind), study, source.of)
        else:
            frames[name] = _concatenated(files, source.columns, source.kind)
    return frames


def read_tables(paths: Sequence[Path], columns: Sequence[str], kind: str = "this kind") -> pd.DataFrame:
    """The rows of all tables, trained models first and controls last, each as they were given; no empty tables.

    Raises:
        UserError: no table, a missing column, only empty tables, or tables of different studies or data sets.
    """
    frame = _concatenated(paths, (*HEAD, *SERIES, "seed", *columns), kind)
    return frame.sort_values("paradigm", key=lambda kinds: kinds == "control", kind="stable", ignore_index=True)


def _concatenated(paths: Sequence[Path], columns: Sequence[str], kind: str) -> pd.DataFrame:
    if not paths:
        raise UserError(f"no table of {kind} was given, and the figure needs one")
    frames = {}
    for path in paths:
        frame = read_table(path)
        if missing := [name for name in columns if name not in frame.columns]:
            raise UserError(f"table {path} has no column {', '.join(missing)}; rebuild it")
        if frame.empty:
            raise UserError(f"table {path} has no rows; rebuild it")
        text = frame.select_dtypes(["category"]).columns
        frames[path] = frame.astype(dict.fromkeys(text, "object"))
    for column in ("study", "data_hash"):
        values = {str(path): frame[column].iloc[0] for path, frame in frames.items()}
        if len(set(values.values())) > 1:
            listed = "; ".join(f"{path}: {value}" for path, value in values.items())
            raise UserError(f"tables of different {column} cannot be drawn together ({listed})")
    return pd.concat(frames.values(), ignore_index=True)


def of_study(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows in the study's own order of models, then controls, with its labels, whatever the tables say of both.

    Raises:
        UserError: the rows are of another study, or of a model or architecture that this one does not have.
    """
    others = sorted(set(frame["study"]) - {study.study})
    if others:
        raise UserError(f"tables of study {', '.join(others)} cannot be drawn as {study.study!r}; give its own config")
    order = {name: place for place, name in enumerate([*study.models, *study.controls()])}
    unknown = sorted(set(frame["model"]) - set(order)) + sorted(set(frame["architecture"]) - set(study.architectures))
    if unknown:
        raise UserError(f"study {study.study!r} has no {', '.join(unknown)}; known: {', '.join(order)}")
    frame = frame.sort_values("model", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return frame.assign(label=frame["model"].map(labels(study)))


def labels(study: Study) -> dict[str, str]:
    """What figures call every model and control: labels are for figures alone, and no table depends on them."""
    controls = {name: f"untrained {study.architectures[kind].label}" for name, kind in study.controls().items()}
    return {name: model.label for name, model in study.models.items()} | controls


def of_group(frame: pd.DataFrame, study: Study, group: str) -> pd.DataFrame:
    """Those rows of :func:`of_study` that are of a group of encoders, a key of :data:`~.sources.GROUPS`.

    Raises:
        UserError: as :func:`of_study`, or there are no such rows.
    """
    frame = of_study(frame, study)
    models = list(dict.fromkeys(model for model, _ in GROUPS[group](study).values()))
    frame = frame[frame["model"].isin(models)].reset_index(drop=True)
    if frame.empty:
        raise UserError(f"no table is of {', '.join(models)}, which the figure compares")
    return frame


DEPTHS = {
    "blocks": lambda count: range(1, count + 1),
    "outputs": lambda count: range(count + 1),
    "states": lambda count: [half / 2 for half in range(2 * count + 1)],
}


def check_complete(frame: pd.DataFrame, study: Study, depths: str = "blocks") -> None:
    """Every encoder measured on the same images, at every depth: a key of :data:`DEPTHS`.

    Raises:
        UserError: an encoder lacks depths, has depths too many, or was measured on other images than the first one.
    """
    first = frame["model"].iloc[0]
    images = set(frame.loc[frame["model"] == first, "image"])
    metrics = ["metric"] if "metric" in frame else []
    for (model, *metric), group in frame.groupby(["model", *metrics], sort=False):
        blocks = study.architectures[group["architecture"].iloc[0]].depth
        wanted = set(DEPTHS[depths](blocks))
        name = metric[0] if metric else "the table"
        if wrong := sorted(wanted ^ set(group["depth"])):
            listed = ", ".join(f"{depth:g}" for depth in wrong)
            raise UserError(
                f"table of {model}: {name} has missing or unknown blocks ({listed}; the encoder has 1 … {blocks}); "
                "rebuild it"
            )
        if differing := images ^ set(group["image"]):
            raise UserError(
                f"tables of {first} and {model} differ in {len(differing)} images ({min(differing)}, …); rebuild them"
            )


# ------------------------------------------------------------------------------------------------
# Curves
# ------------------------------------------------------------------------------------------------


def depth_curves(frame: pd.DataFrame, metric: str, bootstrap: Bootstrap, first: float = 1) -> pd.DataFrame:
    """One row per model and depth: the mean over images with its interval, and one per head without.

    Heads and seeds are averaged within an image; images are resampled. Depths begin at ``first``: 1 for what happens
    in a block, 0 for tokens. Head -1, a value for all heads, gets no row of its own.

    Returns:
        columns ``model label method paradigm architecture kind depth relative_depth head value low high images seeds``
        and the provenance; ``kind`` is ``mean`` or ``head``.

    Raises:
        UserError: a model has no values of this metric, not every depth and head of every image, a value that is not
            finite, or a single image.
    """
    rows = []
    for model, group in frame[frame["metric"] == metric].groupby("model", sort=False):
        if not (finite := np.isfinite(group["value"])).all():
            bad = group[~finite].iloc[0]
            raise UserError(
                f"table of {model}: {metric} of image {bad['image']} is not finite at depth {bad['depth']}, head "
                f"{bad['head']}; rebuild it"
            )
        if group["image"].nunique() < 2:
            raise UserError(f"table of {model} has one image; an interval needs two or more (analysis.images)")
        per_image = group.pivot_table(index="image", columns="depth", values="value", aggfunc="mean")
        heads = group.groupby(["depth", "head"])["value"].mean()
        seeds = group["seed"].nunique()
        expected = len(per_image) * len(heads) * seeds
        twice = group.duplicated(["seed", "image", "depth", "head"]).any()
        if len(group) != expected or twice or per_image.isna().any(axis=None):
            raise UserError(
                f"table of {model}: {len(group)} values of {metric} instead of {expected} "
                f"({len(per_image)} images, {len(heads)} heads in all blocks, {seeds} seeds); rebuild it"
            )
        interval = bootstrap_mean(
            per_image.to_numpy(), level=bootstrap.level, resamples=bootstrap.resamples, seed=bootstrap.seed
        )
        deepest = int(per_image.columns.max())
        constants = group.iloc[0][[*SERIES]].to_dict()
        constants |= {name: " | ".join(group[name].unique()) for name in HEAD}  # seeds may differ in commit or device
        constants |= {"metric": metric, "images": len(per_image), "seeds": seeds}
        for depth, value, low, high in zip(per_image.columns, *interval, strict=True):
            place = {"depth": depth, "relative_depth": relative_depth(depth, deepest, first)}
            rows.append(constants | {"kind": "mean"} | place | {"value": value, "low": low, "high": high})
        for (depth, head), value in heads[heads.index.get_level_values("head") >= 0].items():
            place = {"depth": depth, "relative_depth": relative_depth(depth, deepest), "head": head}
            rows.append(constants | {"kind": "head"} | place | {"value": value})
    absent = set(frame["model"]) - {row["model"] for row in rows}
    if absent:
        raise UserError(f"tables of {', '.join(sorted(absent))} have no values of {metric}; rebuild them")
    return pd.DataFrame(rows)


def relative_depth(depth: float, deepest: float, first: float = 1) -> float:
    """0 at the first depth and 1 at the last, so that encoders of different depth lie over each other."""
    return (depth - first) / (deepest - first) if deepest > first else 1.0
