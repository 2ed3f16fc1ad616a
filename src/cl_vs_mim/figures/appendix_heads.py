"""Appendix: attention distance and NMI of every head."""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import MaxNLocator

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import drawn_columns
from cl_vs_mim.figures.fig03 import COLUMNS
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.sources import Table
from cl_vs_mim.figures.tables import check_complete, depth_curves

_METRICS = {"attention_distance": "attention distance (px)", "nmi": "normalised mutual\ninformation"}


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    frame = frames["attention"]
    check_complete(frame, study)
    styles = series_styles(study)
    models = list(dict.fromkeys(frame["model"]))
    curves = {metric: depth_curves(frame, metric, study.figures.bootstrap) for metric in _METRICS}
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.6)
        panels = figure.subplots(len(_METRICS), len(models), squeeze=False, sharey="row", sharex=True)
        for row, (metric, label) in zip(panels, _METRICS.items(), strict=True):
            for axes, model in zip(row, models, strict=True):
                rows = curves[metric][curves[metric]["model"] == model]
                heads = rows[rows["kind"] == "head"].sort_values(["depth", "value"])
                count = heads.groupby("depth")["value"].transform("size")
                offset = (heads.groupby("depth").cumcount() - (count - 1) / 2) / count * 0.6
                axes.plot(heads["depth"] + offset, heads["value"], "o", color=styles[model].color, markersize=2.5)
                mean = rows[rows["kind"] == "mean"]
                axes.plot(mean["depth"], mean["value"], color=styles[model].color, linewidth=0.9, alpha=0.7)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            row[0].set_ylim(bottom=0)  # shared by the row, hence after all of it is drawn
            row[0].set_ylabel(label)
        for axes, model in zip(panels[0], models, strict=True):
            axes.set_title(frame.loc[frame["model"] == model, "label"].iloc[0].replace("untrained ", "untrained\n"))
        for axes in panels[-1]:
            axes.set_xlabel("depth (block)")
        style.add_footer(figure, style.describe(study, frame, "A dot is a head.", study.pair()))
    return figure, drawn_columns(pd.concat(curves.values(), ignore_index=True))


FIGURE = Figure(
    title="Appendix: attention distance and NMI of each head",
    caption=(
        "Each dot is a head of a block, its mean over images; heads of a block are sorted by value. Line: mean over "
        "heads. Grey: the untrained encoder of each architecture."
    ),
    reads={"attention": Table("attention", "pair", COLUMNS)},
    draw=draw,
    settings=(BOOTSTRAP,),
)
