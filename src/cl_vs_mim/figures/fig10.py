"""Figure 10: what a linear probe reads at every depth.

Masked-image encoders are claimed to be readable earlier, contrastive ones later; SimMIM peaks before its last blocks,
which act as a decoder (claims C23, C24). An untrained encoder is not at chance: colour and texture pass through it.
"""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import draw_reference, drawn_columns, reference_rows, shared_legend
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import method_key, series_styles
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
from cl_vs_mim.figures.sources import Reference, Table

LABELS, _SPLIT, _PUBLISHED = "class", "val", "fig10"


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    frame = of_labels(frames["probe"], LABELS)
    frame = frame[frame["split"] == _SPLIT]
    check_probes(frame, study)
    curves, chance = accuracy_curves(frame, study), chance_rows(frame)
    published, scale = _published(curves, frames["reference"])

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.5)
        panels = figure.subplots(1, 2, sharey=True)
        styles = series_styles(study)
        for axes, (letter, pooling) in zip(panels, zip("ab", POOLINGS, strict=True), strict=True):
            draw_reference(axes, published, "published (right axis)", named=True)
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


def _published(curves: pd.DataFrame, reference: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """The published curves of the pair's methods that are drawn, and the number that their values are multiplied by.

    One number for all: the best published accuracy comes to lie on the best accuracy of a trained encoder.
    """
    rows = published_curves(reference, _PUBLISHED)
    drawn = curves.loc[curves["paradigm"] != "control"]
    methods = dict(drawn[["method", "model"]].drop_duplicates("method").itertuples(index=False))
    ours = rows["method"].map(lambda name: methods.get(method_key(name)))
    rows = rows.assign(model=ours)[ours.notna()]
    if rows.empty:
        return rows, 1.0
    scale = drawn["value"].max() / rows["value"].max()
    return reference_rows(rows, int(curves["depth"].max()), scale, METRIC), scale


FIGURE = Figure(
    title="Figure 10: linear probes of every depth",
    caption=(
        "Top-1 accuracy of a linear probe on the embedding (depth 0) and on the output of every block, validation "
        "images, with a bootstrap band over images. Features of one pass without augmentation (protocol cached), "
        "standardised by the training images (BatchNorm without affine), then one linear layer; learning rate "
        "chosen on training images held back. The paper states neither pooling nor norm: left the mean of the patch "
        "tokens, our default, right CLS; no final LayerNorm unless the study sets it. At depth 0, CLS has seen no "
        "patch. Grey: the untrained encoder of each architecture. Dotted: always naming the commonest training "
        "label. Faint: the published curves for ViT-B/16 on ImageNet-1K, first block on first and last on last, all "
        "divided by one number (right axis): another task of 1,000 classes, so only their shape and order compare."
    ),
    reads={"probe": Table("linear_probe", "pair", COLUMNS), "reference": Reference()},
    draw=draw,
    settings=(BOOTSTRAP,),
)
