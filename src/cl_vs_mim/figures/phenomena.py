"""Time to phenomenon: after how many images an effect of the paper appears in a training, and stays.

Each effect is a number per snapshot with a threshold. It has appeared at the first snapshot from which on the number is
on the right side of the threshold at all later ones; an effect that comes and goes has not. Effects that compare the
two objectives compare encoders that have seen equally many images; what their untrained encoders differ by is taken off
in a second curve, because two architectures differ before any training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, NullFormatter

from cl_vs_mim.config import Study
from cl_vs_mim.config.analysis import Phenomena
from cl_vs_mim.config.encoders import snapshot_runs
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.sources import Table
from cl_vs_mim.metrics.yardstick import uniform_attention_distance

_COUNT = EngFormatter(sep="", places=0)
_BEYOND = "less what untrained encoders differ by"
COLUMNS = ("model", "seed", "images_seen", "seconds", "depth", "metric", "value", "grid", "patch_size")
_FOURIER = "relative_log_amplitude"
_NEAREST = 0.02  # of the images seen: batches differ, so snapshots of two methods lie that much apart
Curves = dict[str, pd.DataFrame]  # metric -> (images seen) x (depth), of one training


@dataclass(frozen=True)
class Effect:
    """One effect.

    Attributes:
        name: in the table.
        label: of the panel's axis.
        of: which of the pair has it: ``cl``, ``mim`` or ``both``.
        value: (curves of the contrastive training, of the masked one, settings) -> the number by images seen.
        threshold: by the settings.
        above: whether the effect is there above the threshold, or below it.
    """

    name: str
    label: str
    of: str
    value: Callable[[Curves, Curves, Phenomena], pd.Series]
    threshold: Callable[[Phenomena], float]
    above: bool = True


# ------------------------------------------------------------------------------------------------
# Effects
# ------------------------------------------------------------------------------------------------


def near(cl: Curves, mim: Curves, settings: Phenomena) -> pd.Series:
    """The distance, as a share of uniform attention's, that the given share of blocks stays below."""
    shares = np.quantile(mim["distance"].to_numpy(), settings.near_blocks, axis=1, method="inverted_cdf")
    return pd.Series(shares, mim["distance"].index)


def valley(cl: Curves, mim: Curves, settings: Phenomena) -> pd.Series:
    """How deep the distance dips over depth, measured from the lower of the heights before and behind."""
    shares = cl["distance"].to_numpy()  # (S, L)
    before = np.maximum.accumulate(shares, axis=1)
    behind = np.maximum.accumulate(shares[:, ::-1], axis=1)[:, ::-1]
    return pd.Series((np.minimum(before, behind) - shares).max(axis=1), cl["distance"].index)


def concentrated(cl: Curves, mim: Curves, settings: Phenomena) -> pd.Series:
    """How far the entropy of late blocks lies below the untrained encoder's; 0 where the queries do not agree."""
    entropy, agreement = (_late(cl[name], settings) for name in ("attention_entropy", "query_similarity"))
    return (entropy.loc[0] - entropy).where(agreement >= settings.agree, 0.0)


def _late(frame: pd.DataFrame, settings: Phenomena) -> pd.Series:
    """Mean over the late blocks."""
    count = max(1, round(settings.late * frame.shape[1]))
    return frame.iloc[:, -count:].mean(axis=1)


def information(cl: Curves, mim: Curves, settings: Phenomena) -> pd.Series:
    """Mutual information of late blocks, the masked encoder's minus the contrastive one's."""
    return _late(mim["nmi"], settings) - _late(cl["nmi"], settings)


def neighbours(cl: Curves, mim: Curves, settings: Phenomena) -> pd.Series:
    """Nearest-neighbour accuracy of the last block, the contrastive encoder's minus the masked one's."""
    return cl["knn_mean"].iloc[:, -1] - mim["knn_mean"].iloc[:, -1]


def fourier(cl: Curves, mim: Curves, settings: Phenomena) -> pd.Series:
    """Log amplitude of the highest frequency at the last block, the masked encoder's minus the contrastive one's."""
    return mim[_FOURIER].iloc[:, -1] - cl[_FOURIER].iloc[:, -1]


EFFECTS = (
    Effect(
        "near", "distance / uniform,\nhalf of masked blocks", "mim", near, lambda settings: settings.near, above=False
    ),
    Effect("valley", "dip of the distance\nover depth, contrastive", "cl", valley, lambda settings: settings.valley),
    Effect(
        "concentrated",
        "entropy below untrained,\nlate, contrastive",
        "cl",
        concentrated,
        lambda settings: settings.concentrated,
    ),
    Effect("information", "NMI late,\nmasked − contrastive", "both", information, lambda settings: 0.0),
    Effect("neighbours", "neighbours' accuracy,\ncontrastive − masked", "both", neighbours, lambda settings: 0.0),
    Effect("fourier", "high frequencies,\nmasked − contrastive", "both", fourier, lambda settings: 0.0),
)


def onset(values: pd.Series, threshold: float, above: bool) -> float:
    """Images seen at the first snapshot from which on the effect is there; NaN if it is not there at the last one."""
    there = (values > threshold) if above else (values <= threshold)
    lasting = there[::-1].cummin()[::-1]
    return float(lasting.idxmax()) if lasting.any() else float("nan")


# ------------------------------------------------------------------------------------------------
# Curves and table
# ------------------------------------------------------------------------------------------------


def curves_of(frame: pd.DataFrame) -> Curves:
    """The measured values of one training, and ``distance`` as a share of that of uniform attention."""
    found = {
        str(name): rows.pivot_table("value", "images_seen", "depth", observed=True).sort_index()
        for name, rows in frame.groupby("metric", observed=True)
    }
    grid, patch = (int(frame[name].iloc[0]) for name in ("grid", "patch_size"))
    return found | {"distance": found["attention_distance"] / uniform_attention_distance(grid, patch)}


def effect_curves(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows of effect, seed and images seen: ``value``, ``beyond`` (less what the untrained encoders differ by).

    Raises:
        UserError: no seed has both trainings.
    """
    settings = study.analysis.phenomena
    assert settings is not None  # the figure's needs
    cl_name, mim_name = study.figures.pair
    parts = []
    for seed in sorted(set(frame["seed"])):
        rows = frame[frame["seed"] == seed]
        sides = {model: curves_of(part) for model, part in rows.groupby("model", observed=True) if len(part)}
        if set(sides) != {cl_name, mim_name}:
            continue
        for effect in EFFECTS:
            cl, mim, clock = sides[cl_name], sides[mim_name], {one: seconds_of(rows, one) for one in sides}
            seconds = clock[mim_name if effect.of == "mim" else cl_name]
            if effect.of == "both":
                mim = {name: _at(curves, cl[name].index) for name, curves in mim.items()}
                seconds = seconds + _at(clock[mim_name], seconds.index)
            values = effect.value(cl, mim, settings).dropna()
            beyond = values - values.loc[0] if effect.of == "both" else values
            part = pd.DataFrame({"value": values, "beyond": beyond, "seconds": seconds.reindex(values.index)})
            part = part.rename_axis("images_seen").reset_index()
            parts.append(part.assign(effect=effect.name, seed=seed, threshold=effect.threshold(settings)))
    if not parts:
        raise UserError(f"snapshots of {cl_name} and {mim_name} are of different seeds: there is nothing to compare")
    return pd.concat(parts, ignore_index=True)


def seconds_of(rows: pd.DataFrame, model: str) -> pd.Series:
    """Time in training by images seen."""
    one = rows[rows["model"] == model].drop_duplicates("images_seen").set_index("images_seen")
    return one["seconds"].sort_index()


def _at(values: Any, seen: pd.Index) -> Any:
    """Values of one training at the images seen by another; NaN where it has no snapshot near enough."""
    return values.reindex(seen, method="nearest", tolerance=_NEAREST * seen.to_numpy())


def onsets(curves: pd.DataFrame) -> pd.DataFrame:
    """A row per effect and seed: images and minutes until it appears and stays, of the value and beyond untrained."""
    rows = []
    for effect in EFFECTS:
        for seed, part in curves[curves["effect"] == effect.name].groupby("seed"):
            part = part.set_index("images_seen").sort_index()
            threshold = part["threshold"].iloc[0]
            row = {"effect": effect.name, "seed": seed, "threshold": threshold, "last_images": part.index.max()}
            for column in ("value", "beyond"):
                images = onset(part[column], threshold, effect.above)
                row[f"images_{column}"] = images
                row[f"minutes_{column}"] = np.nan if np.isnan(images) else part["seconds"].loc[images] / 60
                row[f"last_{column}"] = part[column].iloc[-1]
            rows.append(row)
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------
# Figure
# ------------------------------------------------------------------------------------------------


def _said(rows: pd.DataFrame) -> str:
    """When an effect appears, seed by seed."""
    said = []
    for row in rows.to_dict("records"):
        seen = row["images_value"]
        if np.isnan(seen):
            said.append(f"not within {_COUNT(row['last_images'])}")
        else:
            said.append(_COUNT(seen) if seen > 0 else "before training")
    return "appears: " + ", ".join(said)


def draw(frames: Frames, study: Study) -> Drawing:
    """The figure, and its curves and onsets.

    Raises:
        UserError: no seed has both trainings.
    """
    curves = effect_curves(frames["snapshots"], study)
    table = onsets(curves)
    styles = series_styles(study)
    colours = dict(zip(("cl", "mim"), (styles[name].color for name in study.figures.pair), strict=True))
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 4.2)
        for axes, effect in zip(figure.subplots(2, 3).flat, EFFECTS, strict=True):
            colour = colours.get(effect.of, "black")
            for seed, rows in curves[curves["effect"] == effect.name].groupby("seed"):
                seen = rows[rows["images_seen"] > 0]
                axes.plot(seen["images_seen"], seen["value"], color=colour, linewidth=1.1, label="seed by seed")
                if effect.of == "both":
                    look = dict(color=colour, linewidth=0.8, linestyle="--", label=_BEYOND)
                    axes.plot(seen["images_seen"], seen["beyond"], **look)
                (row,) = table[(table["effect"] == effect.name) & (table["seed"] == seed)].to_dict("records")
                if row["images_value"] > 0:
                    axes.axvline(row["images_value"], color=colour, linewidth=0.7, alpha=0.5)
            axes.axhline(rows["threshold"].iloc[0], color="black", linestyle=":", linewidth=0.9, label="threshold")
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_formatter(_COUNT)
            axes.set_ylabel(effect.label)
            axes.set_xlabel("images seen")
            axes.set_title(_said(table[table["effect"] == effect.name]), fontsize=7)
        last = figure.axes[-1].get_legend_handles_labels()
        handles = dict(zip(*reversed(last), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
        reduced = "Reduced study" if study.reduced else "Study"
        seeds = ", ".join(map(str, sorted(curves["seed"].unique())))
        note = "Upright lines: the effect has appeared and stays."
        style.add_footer(figure, f"{reduced}: {study.study} ({study.title}). Seeds {seeds}. {note}")
    return figure, pd.concat([curves.assign(kind="curve"), table.assign(kind="onset")], ignore_index=True)


def _both_sides(study: Study) -> bool:
    """Whether snapshots of both of the pair are measured, of one seed at least."""
    runs = snapshot_runs(study).values()
    cl, mim = ({seed for name, seed in runs if name == model} for model in study.figures.pair)
    return bool(cl & mim)


FIGURE = Figure(
    title="Time to phenomenon",
    caption=(
        "Six effects of the paper against the number of images that training has seen, from encoders kept on a "
        "geometric schedule. An effect has appeared at the first snapshot from which on it stays on its side of the "
        "threshold. Top: the masked encoder's attention distance that half of its blocks stay below; how far the "
        "contrastive encoder's distance dips over depth; how far the entropy of its late blocks lies below that of "
        "the untrained encoder while the maps of different queries agree. Bottom: the order of the two in late "
        "mutual information, nearest-neighbour accuracy and high frequencies, at equal numbers of images."
    ),
    reads={"snapshots": Table("snapshots", "pair_trained", COLUMNS)},
    draw=draw,
    settings=("analysis.phenomena",),
    needs=_both_sides,
)
