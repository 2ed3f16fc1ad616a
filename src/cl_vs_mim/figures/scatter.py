"""Points with intervals in both directions, and the paper's own points beside them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from cl_vs_mim.figures.looks import SeriesStyle, published_colour

_POINTS_PER_INCH = 72
_NAME_WIDTH, _NAME_HEIGHT = 45, 8  # points


def draw_points(axes: Axes, points: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> None:
    """A marker with error bars for each row: ``model label x_value x_low x_high y_value y_low y_high``."""
    for row in points.itertuples():
        look = styles[row.model]
        bars = {
            f"{axis}err": [[getattr(row, f"{axis}_value") - low], [high - getattr(row, f"{axis}_value")]]
            for axis, low, high in (("x", row.x_low, row.x_high), ("y", row.y_low, row.y_high))
            if pd.notna(low)
        }
        face = {"markerfacecolor": "white"} if look.hollow else {}
        axes.errorbar(
            *(row.x_value, row.y_value),
            **bars,
            **face,
            **{"color": look.color, "marker": look.marker, "linestyle": "none", "label": row.label},
            **{"elinewidth": 0.7, "zorder": look.zorder},
        )


Named = list[tuple[str, float, float]]  # what is written, and the point that it is written at


def draw_published(axes: Axes, rows: pd.DataFrame, names: Mapping[str, str]) -> Named:
    """The paper's points, muted; their names are for :func:`name_points`, once the layout is settled.

    Args:
        axes: axes in the paper's own scale.
        rows: ``method x y`` of the reference table, x as a number.
        names: method in the table -> as written.
    """
    ends = []
    for method, group in rows.groupby("method", sort=False):
        name = names.get(method, method)
        colour = published_colour(name)
        line = "-" if len(group) > 1 else "none"
        axes.plot(group["x"], group["y"], marker="o", linestyle=line, color=colour, markersize=4, linewidth=1.0)
        place = 0 if name.endswith("†") else -1  # of several sizes the largest; the daggers meet the others there
        ends.append((name, group["x"].iloc[place], group["y"].iloc[place]))
    axes.margins(0.25)
    return ends


def name_points(axes: Axes, ends: Named) -> None:
    """Names to the right of their points, moved up where they would lie on each other.

    The figure's layout must be settled (``Figure.draw_without_rendering``): distances are measured on the page.
    """
    placed: list[tuple[float, float]] = []
    for name, x, y in sorted(ends, key=lambda end: (end[2], end[1])):
        across, up = axes.transData.transform((x, y)) * _POINTS_PER_INCH / axes.figure.dpi
        wanted = up
        for other_across, other_up in placed:
            if abs(across - other_across) < _NAME_WIDTH and wanted < other_up + _NAME_HEIGHT:
                wanted = other_up + _NAME_HEIGHT
        placed.append((across, wanted))
        axes.annotate(
            name,
            (x, y),
            textcoords="offset points",
            xytext=(5, wanted - up - 2),
            fontsize=_NAME_HEIGHT - 1,
            color="#555555",
        )
