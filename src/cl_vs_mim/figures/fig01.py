"""Figure 1: who wins where. Linear probing, fine-tuning, model size, dense prediction (claims C1 to C5)."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.figures import style
from cl_vs_mim.figures.cli import REFERENCE, figure_parser
from cl_vs_mim.figures.scatter import draw_points, draw_published, name_points
from cl_vs_mim.figures.scores import classification_scores, dense_scores, side_by_side
from cl_vs_mim.figures.tables import paradigms

TITLE = "Figure 1: linear probing, fine-tuning, size, detection"
CAPTION = (
    "Top: this study. (a) Fine-tuning against linear probing (protocol augmented_probe: one layer on the frozen "
    "encoder, augmented images), top-1 on validation images. (b) Fine-tuning against the number of the encoder's "
    "parameters. (c) Fine-tuning against detection, box AP of Mask R-CNN on composed scenes, where the study trains "
    "detectors. Bars: 95 % over seeds where there are several, else over images, which leaves out what another "
    "training would give. Hollow grey: trained on labels from random weights. Bottom, muted: the published values, "
    "ImageNet-1K and COCO; those without a dagger come from other papers and recipes. Other data and scales: only the "
    "order compares."
)
_PUBLISHED_NAMES = {
    "MoCo-dagger (authors 100ep)": "MoCo v3†",
    "SimMIM-dagger (authors 100ep)": "SimMIM†",
}
_PANELS = {
    "a (left)": ("linear probing (%)", "published: linear probing (%)"),
    "b (middle)": ("parameters", "published: parameters"),
    "c (right)": ("box AP", "published: COCO box AP"),
}
_SIZES, _SIZE_PANEL = "b x-axis", "b (middle)"
_LEAST_RATIO = 10  # of the largest to the smallest number of parameters on the axis


def points(probe: list[Path], finetuning: list[Path], detection: list[Path], study: Study) -> dict[str, pd.DataFrame]:
    """What the upper panels show, by panel of the reference table; no rows where the study has no such results."""
    bootstrap = study.figures.bootstrap
    tuned = classification_scores(finetuning, study, bootstrap)
    sized = tuned.rename(columns={name: f"y_{name}" for name in ("value", "low", "high", "interval")})
    sized = sized.assign(x_value=sized["parameters"], x_low=np.nan, x_high=np.nan)
    detected = dense_scores(detection, study, "box", "AP", bootstrap) if detection else None
    return {
        "a (left)": side_by_side(classification_scores(probe, study, bootstrap), tuned),
        "b (middle)": sized,
        "c (right)": sized.iloc[:0] if detected is None else side_by_side(detected, tuned),
    }


def draw(shown: dict[str, pd.DataFrame], reference: Path, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn; ``shown`` as of :func:`points`.

    Raises:
        UserError: the reference table cannot be read.
    """
    tuned = shown["b (middle)"]
    styles = style.series_styles(paradigms(tuned))
    published = _published(read_table(reference))
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
    return (
        f"{reduced}: {study.study} ({study.title}). Labels: {tuned['labels'].iloc[0]}, chance {chance:.1f} %; "
        f"{int(tuned['images'].iloc[0])} images; seeds: {seeds}; bars: 95 % over {kinds}."
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


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    shown = points(arguments.probe_tables, arguments.tables, arguments.detection_tables or [], study)
    figure, drawn = draw(shown, arguments.reference, study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


def _parser() -> argparse.ArgumentParser:
    parser = figure_parser(TITLE, probe_tables="tables of linear probes", **REFERENCE)
    parser.add_argument("--detection-tables", type=Path, nargs="+", help="tables of detection, if there are any")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
