"""Figure 10: what a linear probe reads at every depth.

Masked-image encoders are claimed to be readable earlier, contrastive ones later; SimMIM peaks before its last blocks,
which act as a decoder (claims C23, C24). An untrained encoder is not at chance: colour and texture pass through it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.figures import style
from cl_vs_mim.figures.cli import REFERENCE, figure_parser
from cl_vs_mim.figures.curves import draw_reference, drawn_columns, reference_rows, shared_legend
from cl_vs_mim.figures.probes import (
    COLUMNS,
    METRIC,
    POOLINGS,
    accuracy_curves,
    chance_rows,
    check_probes,
    draw_panel,
    of_labels,
    protocol_note,
)
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.tables import of_pair, paradigms, read_tables

TITLE = "Figure 10: linear probes of every depth"
CAPTION = (
    "Top-1 accuracy of a linear probe on the embedding (depth 0) and on the output of every block, validation images, "
    "with a bootstrap band over images. Features of one pass without augmentation (protocol cached), standardised by "
    "the training images (BatchNorm without affine), then one linear layer; learning rate chosen on training images "
    "held back. The paper states neither pooling nor norm: left the mean of the patch tokens, our default, right CLS; "
    "no final LayerNorm unless the study sets it. At depth 0, CLS has seen no patch. Grey: the untrained encoder of "
    "each architecture. Dotted: always naming the commonest training label. Faint: the published curves for ViT-B/16 "
    "on ImageNet-1K, first block on first and last on last, all divided by one number (right axis): another task of "
    "1,000 classes, so only their shape and order compare."
)
LABELS, _SPLIT, _PUBLISHED = "class", "val", "fig10"


def draw(frame: pd.DataFrame, reference: Path, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn.

    Args:
        frame: rows of the linear-probe tables of all encoders.
        reference: the table of published values.
        study: whose figure it is.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    frame = of_labels(of_pair(frame, study), LABELS)
    frame = frame[frame["split"] == _SPLIT]
    check_probes(frame, study)
    curves, chance = accuracy_curves(frame, study), chance_rows(frame)
    published, scale = _published(curves, reference, study)

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.5)
        panels = figure.subplots(1, 2, sharey=True)
        styles = style.series_styles(paradigms(frame))
        for axes, (letter, pooling) in zip(panels, zip("ab", POOLINGS, strict=True), strict=True):
            draw_reference(axes, published, "published (right axis)", style.PUBLISHED)
            draw_panel(axes, curves[curves["pooling"] == pooling], chance, styles)
            axes.set_title(f"({letter}) {POOLINGS[pooling]}", loc="left")
        panels[0].set_ylabel(f"top-1 of {frame['classes'].iloc[0]} classes (%)")
        panels[0].set_ylim(bottom=0)
        if not published.empty:
            right = panels[1].secondary_yaxis("right", functions=(lambda y: y / scale, lambda y: y * scale))
            right.set_ylabel("published, 1,000 classes (%)")
        shared_legend(figure, *panels)
        style.add_footer(figure, style.describe(study, frame, protocol_note(frame, study), study.pair()))
    return figure, drawn_columns(pd.concat([curves, chance, published], ignore_index=True))


def _published(curves: pd.DataFrame, reference: Path, study: Study) -> tuple[pd.DataFrame, float]:
    """The published curves of the pair's methods that are drawn, and the number that their values are multiplied by.

    One number for all: the best published accuracy comes to lie on the best accuracy of a trained encoder.
    """
    rows = published_curves(reference, _PUBLISHED)
    drawn = curves.loc[curves["paradigm"] != "control"]
    methods = dict(drawn[["method", "model"]].drop_duplicates("method").itertuples(index=False))
    ours = rows["method"].map(lambda name: methods.get(re.sub(r"[^a-z0-9]+", "_", name.lower())))
    rows = rows.assign(model=ours)[ours.notna()]
    if rows.empty:
        return rows, 1.0
    scale = drawn["value"].max() / rows["value"].max()
    return reference_rows(rows, int(curves["depth"].max()), scale, METRIC), scale


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    figure, drawn = draw(read_tables(arguments.tables, COLUMNS), arguments.reference, study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    run_cli(main, figure_parser(TITLE, **REFERENCE))
