"""Figure 1: who wins where. Linear probing, fine-tuning, model size, dense prediction (claims C1 to C5)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from cl_vs_mim.config import Study
from cl_vs_mim.config.tasks import project_score
from cl_vs_mim.core import pages
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.scatter import draw_points, draw_published, name_points
from cl_vs_mim.figures.scores import CLASSIFICATION, DENSE, encoder_scores, side_by_side
from cl_vs_mim.figures.sources import Reference, Table

_PUBLISHED_NAMES = {
    "MoCo-dagger (authors 100ep)": "MoCo v3†",
    "SimMIM-dagger (authors 100ep)": "SimMIM†",
}
_PANELS = {
    "a (left)": ("linear probing (%)", "published: linear probing (%)"),
    "b (middle)": ("parameters", "published: parameters"),
    "c (right)": ("box AP", "published: COCO box AP"),
}
SCORES = ("linear probe", "fine-tuning", "box AP")  # on the axes of a, of all, and of c
_SIZES, _SIZE_PANEL = "b x-axis", "b (middle)"
_LEAST_RATIO = 10  # of the largest to the smallest number of parameters on the axis


def points(frames: Frames, study: Study) -> dict[str, pd.DataFrame]:
    """What the upper panels show, by panel of the reference table; no rows where the study has no such results."""
    bootstrap = study.figures.bootstrap
    probing, tuning, detecting = map(project_score, SCORES)
    tuned = encoder_scores(tuning, frames[tuning.table], bootstrap)
    sized = tuned.rename(columns={name: f"y_{name}" for name in ("value", "low", "high", "interval")})
    sized = sized.assign(x_value=sized["parameters"], x_low=np.nan, x_high=np.nan)
    detection = frames[detecting.table]
    detected = None if detection.empty else encoder_scores(detecting, detection, bootstrap)
    return {
        "a (left)": side_by_side(encoder_scores(probing, frames[probing.table], bootstrap), tuned),
        "b (middle)": sized,
        "c (right)": sized.iloc[:0] if detected is None else side_by_side(detected, tuned),
    }


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: results that do not compare: of other labels, protocols or images.
    """
    shown = points(frames, study)
    tuned = shown["b (middle)"]
    styles = series_styles(study)
    published = _published(frames["reference"])
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 4.8)
        panels = figure.subplots(2, 3)
        for axes in panels[0, 1:]:
            axes.sharey(panels[0, 0])
        names = {}
        for column, (panel, (ours, theirs)) in enumerate(_PANELS.items()):
            top, bottom = panels[:, column]
            draw_points(top, shown[panel], styles)
            top.set_xlabel(ours)
            top.set_title(f"({panel[0]})", loc="left")
            if shown[panel].empty:
                _say_empty(top)
            bottom.set_xscale("log" if panel == _SIZE_PANEL else "linear")
            names[bottom] = draw_published(bottom, published[published["panel"] == panel], _PUBLISHED_NAMES)
            bottom.set_xlabel(theirs)
        _widen(panels[0, 1], tuned["x_value"])
        panels[0, 0].set_ylabel(f"fine-tuning, top-1 of {tuned['classes'].iloc[0]} (%)")
        panels[1, 0].set_ylabel("published: fine-tuning (%)")
        handles, labels = panels[0, 1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
        style.add_footer(figure, _footer(study, tuned))
        figure.draw_without_rendering()
        for axes, ends in names.items():
            name_points(axes, ends)
    drawn = pd.concat([rows.assign(panel=panel, source="this study") for panel, rows in shown.items()])
    drawn = pd.concat([drawn, published.assign(source="published")], ignore_index=True)
    return figure, drawn


def _footer(study: Study, tuned: pd.DataFrame) -> str:
    reduced = "Reduced study, direction only at best" if study.reduced else "Study"
    kinds = ", ".join(sorted(tuned["y_interval"].unique()))
    chance = 100 * tuned["chance"].iloc[0]
    seeds = int(tuned["seeds"].max())
    level = study.figures.bootstrap.level
    return (
        f"{reduced}: {study.study} ({study.title}). Labels: {tuned['labels'].iloc[0]}, chance {chance:.1f} %; "
        f"{int(tuned['images'].iloc[0])} images; seeds: {seeds}; bars: {level:.0%} over {kinds}."
    )


def _widen(axes: Axes, parameters: pd.Series) -> None:
    """A logarithmic axis, not so narrow that two architectures of one size look far apart."""
    axes.set_xscale("log")
    middle = np.sqrt(parameters.min() * parameters.max())
    ratio = max(_LEAST_RATIO, 2 * parameters.max() / parameters.min())
    axes.set_xlim(middle / np.sqrt(ratio), middle * np.sqrt(ratio))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _say_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured\nin this study", transform=axes.transAxes, ha="center", va="center", color="#777")
    axes.set_xticks([])


def _published(table: pd.DataFrame) -> pd.DataFrame:
    """The points of the paper's Figure 1 with numbers on both axes."""
    rows = table[table["figure"] == "fig1"]
    sizes = dict(rows.loc[rows["panel"] == _SIZES, ["x", "y"]].itertuples(index=False))
    rows = rows[rows["panel"].isin(_PANELS)]
    x = [sizes.get(value, value) for value in rows["x"]]
    return rows.assign(x=pd.to_numeric(x), y=pd.to_numeric(rows["y"]))[["panel", "method", "model", "x", "y"]]


FIGURE = Figure(
    title="Figure 1: linear probing, fine-tuning, size, detection",
    caption=(
        "Top: this study. (a) Fine-tuning against linear probing (one layer on the frozen encoder, augmented "
        "images), top-1 on validation images. (b) Fine-tuning against the number of the encoder's parameters. (c) "
        "Fine-tuning against detection, box AP of Mask R-CNN on composed scenes, where the study trains detectors. "
        "Bars: intervals of the study's level over seeds where there are several, else over images, which leaves "
        "out what another training would give. Hollow grey: trained on labels from random weights. Bottom, muted: "
        "the published values, ImageNet-1K and COCO; those without a dagger come from other papers and recipes. "
        "Other data and scales: only the order compares."
    ),
    reads={
        "finetuning": Table("finetuning", "methods", CLASSIFICATION),
        "augmented_probe": Table("augmented_probe", "methods", CLASSIFICATION),
        "detection": Table("detection", "methods", DENSE, optional=True),
        "reference": Reference(),
    },
    draw=draw,
    settings=(BOOTSTRAP,),
    scores=SCORES,
)
