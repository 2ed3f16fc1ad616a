"""Curves of what is measured on tokens: depths 0 … L with half blocks, and spectra with a line for each depth."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from cl_vs_mim.config import Study
from cl_vs_mim.figures.looks import SeriesStyle
from cl_vs_mim.figures.tables import depth_curves


def state_curves(frame: pd.DataFrame, metric: str, study: Study) -> pd.DataFrame:
    """:func:`~cl_vs_mim.figures.tables.depth_curves` of values without heads; depths begin at 0."""
    return depth_curves(frame.assign(metric=metric, head=-1), metric, study.figures.bootstrap, first=0)


def draw_state_curves(axes: Axes, curves: pd.DataFrame, styles: dict[str, SeriesStyle]) -> None:
    """Mean with its band for each model; markers at whole blocks only, small dots at half blocks."""
    for model, group in curves.groupby("model", sort=False):
        style = styles[model]
        whole = group["depth"] % 1 == 0
        look = style.line()
        marker = {name: look.pop(name) for name in ("marker", "markerfacecolor") if name in look}
        axes.plot(group["depth"], group["value"], **look)
        axes.fill_between(group["depth"], group["low"], group["high"], color=style.color, alpha=0.25, linewidth=0)
        halves = group[~whole]
        axes.plot(halves["depth"], halves["value"], ".", color=style.color, markersize=2.5, zorder=look["zorder"])
        axes.plot(group["depth"][whole], group["value"][whole], **look | marker | {"linestyle": "none"})
        axes.plot([], [], label=group["label"].iloc[0], **style.line())
    depth_axis(axes, curves["depth"].max())


def depth_axis(axes: Axes, deepest: float) -> None:
    """Depth from 0, the embedding, to the last block."""
    axes.set_xlim(-0.3, deepest + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_xlabel("depth (0: embedding)")


def pale(color: str, shares: Sequence[float] | np.ndarray) -> list[tuple[float, ...]]:
    """The colour mixed with white: 0 is the colour itself, 1 nearly white. Deeper is paler, as in the paper."""
    base = np.array(to_rgb(color))
    return [tuple(base + (1 - base) * 0.8 * share) for share in shares]


def draw_by_depth(axes: Axes, group: pd.DataFrame, x: str, color: str) -> None:
    """One line for each depth of one model; ``group`` has columns depth, ``x`` and value."""
    depths = sorted(group["depth"].unique())
    shares = np.linspace(0, 1, len(depths)) if len(depths) > 1 else [0.0]
    for depth, tint in zip(depths, pale(color, shares), strict=True):
        line = group[group["depth"] == depth].sort_values(x)
        axes.plot(line[x], line["value"], color=tint, linewidth=1.0, label=f"{depth:g}")


def add_depth_bar(axes: Axes, color: str, deepest: float) -> None:
    """A small bar that says which tint is which depth."""
    colours = mpl.colors.LinearSegmentedColormap.from_list("depth", pale(color, [0, 1]))
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, deepest), colours)
    bar = axes.figure.colorbar(scale, ax=axes, fraction=0.05, pad=0.02, ticks=[0, deepest])
    bar.ax.tick_params(labelsize=6, length=2)
    bar.outline.set_linewidth(0.4)
    bar.ax.set_title("depth", fontsize=6)
