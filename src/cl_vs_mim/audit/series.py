"""What a term is made of: the values of one encoder over its seeds, images and depths, read from the tidy tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cl_vs_mim.audit.contrasts import Contrast, Heads, Term, Value
from cl_vs_mim.audit.identities import identities
from cl_vs_mim.config import Study
from cl_vs_mim.config.encoders import run_name
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.intervals import normal_error
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.metrics.yardstick import uniform_attention_distance

_SIZES = {":smallest": 0, ":middle": None, ":largest": -1}  # places among the widths in their order
_UNTRAINED = "_untrained"
_PLACES = ("image", "depth", "head", "metric", "frequency", "width", "rank", "labels", "pooling", "split")  # of values
_KEPT = 16  # tables; one of a large study's spectra holds millions of rows

# ------------------------------------------------------------------------------------------------
# Which encoder
# ------------------------------------------------------------------------------------------------


def model_of(study: Study, name: str) -> str:
    """The encoder that a term means: ``cl`` and ``mim`` are the study's pair.

    Raises:
        UserError: the study has no such encoder.
    """
    pair = dict(zip(("cl", "mim"), study.figures.pair, strict=True))
    for suffix, place in _SIZES.items():
        if name.endswith(suffix):
            return _sized(study, pair.get(name.removesuffix(suffix), name.removesuffix(suffix)), place)
    if name.removesuffix(_UNTRAINED) in pair and name.endswith(_UNTRAINED):
        return control_of(study, pair[name.removesuffix(_UNTRAINED)])
    name = pair.get(name, name)
    if name not in study.models and name not in study.controls():
        raise UserError(f"the study has no model {name!r}")
    return name


def _sized(study: Study, model: str, place: int | None) -> str:
    """The encoder of that place among those that are trained as the model is, by width; None: the one in the middle."""

    def width(name: str) -> int:
        return study.architectures[study.models[name].architecture].width

    def kind(name: str) -> tuple[str, str, str]:
        found = study.models[name]
        return found.method, found.paradigm, study.architectures[found.architecture].family

    same = {width(name): name for name in reversed(list(study.analysed())) if kind(name) == kind(model)}
    widths = sorted(same)
    if len(widths) == 1:
        raise UserError(f"the study has one size of {study.models[model].label}")
    if place is None and len(widths) < 3:
        raise UserError(f"the study has no size of {study.models[model].label} between the smallest and the largest")
    return same[widths[len(widths) // 2 if place is None else place]]


def control_of(study: Study, model: str) -> str:
    """The untrained encoder of a model's architecture; that of an untrained encoder is itself."""
    return model if model in study.controls() else f"untrained_{study.models[model].architecture}"


def seeds_of(study: Study, model: str) -> list[int]:
    """The trainings, or the random initialisations, of an encoder."""
    return study.models[model].seeds if model in study.models else study.analysis.control_seeds


# ------------------------------------------------------------------------------------------------
# Its values
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """Values of one encoder."""

    model: str
    depths: np.ndarray  # (D,)
    values: np.ndarray  # (S, M, D): seeds, images, depths; NaN where an image does not count
    images: tuple[str, ...]  # M names; none where the table has one value a seed, and then M is 1
    errors: np.ndarray | None  # (S, D), standard errors, where the table itself has an interval
    paths: tuple[Path, ...]


class Source(NamedTuple):
    """Where in the tables the values of a term stand."""

    table: str
    where: tuple[tuple[str, tuple[Value, ...]], ...]
    without: tuple[tuple[str, tuple[Value, ...]], ...]
    rank_fraction: float | None
    highest_frequency: bool
    per_uniform: bool
    log: bool
    decision: tuple[str, tuple[str, ...], tuple[str, ...]] | None
    heads: Heads
    grid: int | None  # patches a side; None: the encoder's own
    every: int  # 1: all images; 2: every other one, in the order of their names


def source_of(contrast: Contrast, term: Term, heads: Heads = "mean", grid: int | None = None, every: int = 1) -> Source:
    """A term's source: what the contrast says, unless the term says otherwise."""
    where = (contrast.where | term.where).items()
    asked = contrast.decision
    decision = None if asked is None else (asked.column, tuple(asked.equals), tuple(asked.among))
    return Source(
        term.table or contrast.table,
        tuple((column, tuple(one if isinstance(one, list) else [one])) for column, one in where),
        tuple((column, tuple(one if isinstance(one, list) else [one])) for column, one in contrast.without.items()),
        contrast.rank_fraction,
        contrast.highest_frequency,
        contrast.per_uniform,
        contrast.log,
        decision,
        heads,
        grid,
        every,
    )


class Tables:
    """The tables of a study; the last ones read, and what was made of all, are kept."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study = study
        self.folder = folder
        self.frame = lru_cache(_KEPT)(read_table)  # a table as it is
        self._contents: dict[Path, int | None] = {}
        self._series: dict[tuple[str, Source], Series] = {}

    def series(self, model: str, source: Source) -> Series:
        """Values of an encoder; heads are pooled.

        Raises:
            UserError: a table is missing, lacks what is asked for, has images or depths of some seeds only, or is the
                table of another seed over again.
        """
        key = (model, source)
        if key not in self._series:
            self._series[key] = self._read(model, source)
        return self._series[key]

    def _refuse_copies(self, model: str, paths: Sequence[Path]) -> None:
        """Two seeds never agree in every value of every image; where they do, one training would count twice.

        Raises:
            UserError: the tables of two seeds do.
        """
        seen: dict[int, Path] = {}
        for path in paths:
            if path not in self._contents:
                self._contents[path] = _content(self.frame(path))
            content = self._contents[path]
            if content is not None and seen.setdefault(content, path) is not path:
                raise UserError(
                    f"{seen[content].stem} and {path.stem} have the same value of every image in table "
                    f"{path.parent.name}, so that they are no two seeds of {model}; rebuild one"
                )

    def _read(self, model: str, source: Source) -> Series:
        arrays, errors, paths, axes = [], [], [], None
        for seed in seeds_of(self.study, model):
            folder = self.folder if source.grid is None else self.folder / f"grid{source.grid}"
            path = folder / source.table / f"{run_name(model, seed)}.parquet"
            if not path.exists():
                raise UserError(f"there is no table {source.table} of {model}, seed {seed}")
            frame = _chosen(self.frame(path), source, path, self.study.figures.bootstrap.level)
            pivot = frame.pivot_table(
                index="image", columns="depth", values="value", aggfunc=source.heads, observed=True, dropna=False
            )
            pivot = pivot.sort_index().iloc[:: source.every]
            gaps = pivot.isna().any(axis=None) and source.decision is None
            if gaps or (axes is not None and not all(map(pd.Index.equals, axes, pivot.axes))):
                raise UserError(f"{path} has gaps, or other images or depths than the table of another seed")
            axes = axes or pivot.axes
            arrays.append(pivot.to_numpy(dtype=np.float64))
            paths.append(path)
            if "standard_error" in frame:
                errors.append(frame.set_index("depth")["standard_error"].loc[pivot.columns].to_numpy())
        assert axes is not None, f"{model} has no seeds"
        self._refuse_copies(model, paths)
        images = tuple(map(str, axes[0])) if "image" in self.frame(paths[0]) else ()
        values = np.stack(arrays)
        if not np.isfinite(values).all() and source.decision is None:
            raise UserError(f"a table {source.table} of {model} has values that are not finite; rebuild it")
        if source.log:
            if (values <= 0).any():
                raise UserError(f"a table {source.table} of {model} has ratios of 0 or less, which have no logarithm")
            values = np.log(values)
        if not np.isfinite(values).any(axis=1).all():
            raise UserError(f"no image of a table {source.table} of {model} is decided in a way that counts")
        if len(images) == 1:
            raise UserError(f"a table {source.table} of {model} has one image, which has no interval")
        if images and not identities(images).any():
            raise UserError(f"a table {source.table} of {model} has images of one identity, which has no interval")
        depths = axes[1].to_numpy(dtype=np.float64)
        return Series(model, depths, values, images, np.stack(errors) if errors else None, tuple(paths))


def _content(frame: pd.DataFrame) -> int | None:
    """What a table measured, as a number, whatever the order of its rows and its origin; None where nothing varies."""
    measured = next((name for name in ("value", "decision") if name in frame), None)
    if measured is None or "image" not in frame or frame[measured].nunique() < 2:
        return None
    kept = [name for name in (*_PLACES, "value", "decision") if name in frame]
    return int(pd.util.hash_pandas_object(frame[kept], index=False).to_numpy().sum())


def _chosen(frame: pd.DataFrame, source: Source, path: Path, level: float) -> pd.DataFrame:
    """The rows that count, with columns ``image depth value`` and, where the table has an interval (of ``level``), its
    error.
    """
    if source.decision is not None:
        column, equals, among = source.decision
        frame = frame.assign(value=frame[column].isin(equals).astype(float))
        if among:
            frame.loc[~frame[column].isin(among), "value"] = np.nan
    missing = [name for name in ("value", *dict(source.where), *dict(source.without)) if name not in frame]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}")
    for column, values in source.where:
        frame = frame[_is_one_of(frame[column], values)]
    for column, values in source.without:
        frame = frame[~_is_one_of(frame[column], values)]
    if "depth" in frame and (halves := frame["depth"] % 1 != 0).any():
        frame = frame[~halves]  # states between attention and MLP: the paper's curves are of whole blocks
    if source.rank_fraction is not None:
        frame = frame[frame["rank"] == max(1, round(source.rank_fraction * frame["rank"].max()))]
    if source.highest_frequency:
        frame = frame[frame["frequency"] == frame["frequency"].max()]
    if frame.empty:
        raise UserError(f"{path} has no rows of {dict(source.where)}")
    if source.per_uniform:
        grid, patch = int(frame["grid"].iloc[0]), int(frame["patch_size"].iloc[0])
        frame = frame.assign(value=frame["value"] / uniform_attention_distance(grid, patch))
    if {"low", "high"} <= set(frame):
        frame = frame.assign(standard_error=normal_error(frame["low"], frame["high"], level))
    absent = {name: 0 for name in ("image", "depth") if name not in frame}
    return frame.assign(**absent)


def _is_one_of(column: pd.Series, values: tuple[Value, ...]) -> pd.Series:
    """Floats such as 0.1 need not be the nearest ones of the table's precision."""
    if pd.api.types.is_float_dtype(column):
        return pd.Series(np.isclose(column.to_numpy()[:, None], values).any(axis=1), index=column.index)
    return column.isin(values)
