"""A panel of curves against depth, as in Figures 3 and 4: models, untrained controls, the published curve behind."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cl_vs_mim.config import Study
from cl_vs_mim.figures.looks import SeriesStyle, published_colour


def draw_curves(axes: Axes, curves: pd.DataFrame, styles: dict[str, SeriesStyle]) -> None:
    """Mean with its band, and one small dot per head, for each model of ``curves``; x is the block, 1 … L."""
    for model, group in curves.groupby("model", sort=False):
        style = styles[model]
        mean = group[group["kind"] == "mean"]
        heads = group[group["kind"] == "head"]
        axes.plot(mean["depth"], mean["value"], label=mean["label"].iloc[0], **style.line())
        axes.fill_between(mean["depth"], mean["low"], mean["high"], color=style.color, alpha=0.25, linewidth=0)
        if (group["paradigm"] != "control").all():
            axes.scatter(heads["depth"], heads["value"], s=3, color=style.color, alpha=0.45, linewidths=0, zorder=1.5)
    deepest = int(curves["depth"].max())
    axes.set_xlim(0.7, deepest + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel("depth (block)")


def reference_rows(published: pd.DataFrame, deepest: int, scale: float, metric: str) -> pd.DataFrame:
    """The published curve laid over ours: first block on first, last on last, values times ``scale``."""
    rows = published.rename(columns={"depth": "published_depth", "value": "published_value"})
    depth = 1 + rows["relative_depth"] * (deepest - 1)
    return rows.assign(kind="reference", metric=metric, depth=depth, value=rows["published_value"] * scale)


def draw_reference(axes: Axes, rows: pd.DataFrame, label: str, *, named: bool = False) -> None:
    """The published curves, muted and behind everything; the legend says ``label``, after the method if ``named``."""
    seen = set()
    for (method, _), group in rows.groupby(["method", "panel"], sort=False):
        each = f"{method}, {label}" if named else label
        axes.plot(
            group["depth"],
            group["value"],
            color=published_colour(method),
            linewidth=1.8,
            alpha=0.8,
            zorder=1,
            label="_nolegend_" if each in seen else each,
        )
        seen.add(each)


def shared_legend(figure: Figure, *panels: Axes) -> None:
    """One legend above all panels, each label once, the published curve and yardsticks last."""
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    last = {label: handle for label, handle in handles.items() if handle.get_marker() == "None"}
    ordered = {label: handle for label, handle in handles.items() if label not in last} | last
    figure.legend(ordered.values(), ordered.keys(), loc="outside upper center", ncols=3)


def level_note(study: Study) -> str:
    """A note that explains the band and the dots."""
    return f"Band: {study.figures.bootstrap.level:.0%} bootstrap over images; dots: heads."


def uniform_row(metric: str, value: float) -> pd.DataFrame:
    """The dotted line, as a row of the CSV."""
    return pd.DataFrame([{"kind": "uniform", "metric": metric, "label": "uniform attention", "value": value}])


def drawn_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The CSV beside a figure: what is drawn, most telling columns first, no empty ones."""
    first = ["kind", "metric", "model", "label", "depth", "head", "value", "low", "high"]
    columns = [name for name in first if name in frame] + [name for name in frame if name not in first]
    counts = [name for name in ("head", "images", "seeds") if name in frame]
    return frame[columns].astype(dict.fromkeys(counts, "Int64")).dropna(axis=1, how="all")
