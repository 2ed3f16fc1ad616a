"""Appendix: attention maps of all blocks and heads, of which Figure 2 shows a few."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.fig02 import COLUMNS
from cl_vs_mim.figures.figure import Drawing, Figure, Frames
from cl_vs_mim.figures.sources import Table

_LEAST_SCALE = 2.0  # times uniform, as in Figure 2
_WIDEST = 0.5  # inches, of one map


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: of another study, or a map is incomplete.
    """
    frame = frames["maps"]
    frame = frame[frame["head"] >= 0]
    frame = frame[frame["seed"] == frame.groupby("model")["seed"].transform("min")]
    models = list(dict.fromkeys(frame["model"]))
    blocks, heads = int(frame["depth"].max()), int(frame["head"].max()) + 1
    side = min(style.DOUBLE / (len(models) * heads + 1), _WIDEST)
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 2 * blocks * side + 1.2)
        figure.get_layout_engine().set(w_pad=0.005, h_pad=0.005, wspace=0.02, hspace=0.02)
        halves = figure.subfigures(2, len(models), squeeze=False)
        for column, model in enumerate(models):
            group = frame[frame["model"] == model]
            for query, part in enumerate(halves[:, column]):
                where = ("on", "off")[query]
                part.suptitle(f"{group['label'].iloc[0]}, query {where} the object", fontsize=8)
                panels = part.subplots(int(group["depth"].max()), int(group["head"].max()) + 1, squeeze=False)
                for (block, head), axes in np.ndenumerate(panels):
                    _draw_map(axes, group, block + 1, head, query)
                    if head == 0:
                        axes.set_ylabel(block + 1, rotation=0, labelpad=6, va="center", fontsize=7)
        style.add_footer(figure, style.describe(study, frame, "Rows: blocks; columns: heads.", study.figures.pair))
    whole = ["depth", "head", "query", "query_row", "query_col", "key_row", "key_col", "grid", "seed"]
    return figure, frame.assign(kind="map").astype(dict.fromkeys(whole, "Int64"))


def _draw_map(axes, group: pd.DataFrame, depth: int, head: int, query: int) -> None:
    rows = group[(group["depth"] == depth) & (group["head"] == head) & (group["query"] == query)]
    grid = int(group["grid"].iloc[0])
    if len(rows) != grid**2:
        model = group["model"].iloc[0]
        raise UserError(
            f"table of {model}: {len(rows)} of {grid**2} values of block {depth}, head {head}, query {query}; rebuild"
        )
    values = np.empty((grid, grid))
    values[rows["key_row"], rows["key_col"]] = rows["value"] * grid**2
    axes.imshow(values, cmap="plasma", vmin=0, vmax=max(values.max(), _LEAST_SCALE), interpolation="nearest")
    axes.plot(rows["query_col"].iloc[0], rows["query_row"].iloc[0], "oD"[query], markersize=2, mfc="none", mec="white")
    style.bare(axes)


FIGURE = Figure(
    title="Appendix: attention maps of all blocks and heads",
    caption=(
        "The maps of Figure 2 for every block (rows) and head (columns) of the main pair: where the patch on the "
        "object (upper half) and the patch off it (lower half) look; the image is that of Figure 2. Each map has "
        "its own scale, from 0 to its maximum but at least twice uniform. Marked: the query."
    ),
    reads={"maps": Table("attention_maps", "pair_trained", COLUMNS)},
    draw=draw,
)
