"""Appendix: coarse-grained classification. Does a probe know a category by its objects, or only the objects it saw?

Contrastive features are claimed to serve classification; an object never trained on asks for more than telling known
objects apart. All encoders of the study are drawn.
"""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import drawn_columns, shared_legend
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.probes import (
    COLUMNS,
    POOLINGS,
    accuracy_curves,
    chance_rows,
    check_probes,
    draw_panel,
    of_labels,
    protocol_note,
)
from cl_vs_mim.figures.sources import Table

LABELS = "category"
SPLITS = {"val": "objects trained on, new images", "heldout": "objects never trained on"}


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    frame = of_labels(frames["probe"], LABELS)
    check_probes(frame, study)
    curves, chance = accuracy_curves(frame, study), chance_rows(frame)
    splits = [name for name in SPLITS if name in set(frame["split"])]

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE if len(splits) > 1 else style.SINGLE, 5.2)
        panels = figure.subplots(len(POOLINGS), len(splits), sharex=True, sharey=True, squeeze=False)
        styles = series_styles(study)
        for row, pooling in zip(panels, POOLINGS, strict=True):
            row[0].set_ylabel(f"top-1 of {frame['classes'].iloc[0]} categories (%)\n{POOLINGS[pooling]}")
            for axes, split in zip(row, splits, strict=True):
                shown = curves[(curves["pooling"] == pooling) & (curves["split"] == split)]
                draw_panel(axes, shown, chance[chance["split"] == split], styles)
                axes.label_outer()
        for axes, split in zip(panels[0], splits, strict=True):
            axes.set_title(f"{SPLITS[split]} ({frame.loc[frame['split'] == split, 'image'].nunique()} images)")
        panels[0, 0].set_ylim(bottom=0)
        shared_legend(figure, *panels.flat)
        style.add_footer(figure, style.describe(study, frame, protocol_note(frame, study)))
    return figure, drawn_columns(pd.concat([curves, chance], ignore_index=True))


FIGURE = Figure(
    title="Appendix: coarse-grained linear probes of every depth",
    caption=(
        "Top-1 accuracy of a linear probe that names the category of an object, with a bootstrap band over images. "
        "Left: new images of the objects trained on. Right: objects of the same categories of which neither encoder "
        "nor probe saw any image. Above the mean of the patch tokens, below CLS. Features of one pass without "
        "augmentation (protocol cached); learning rate chosen on training images held back. The paper's "
        "coarse-grained protocol is unknown; the categories are those of the composed images. Grey: untrained "
        "encoders. Dotted: always naming the commonest category of the training images; categories differ in size."
    ),
    reads={"probe": Table("linear_probe", "methods", COLUMNS)},
    draw=draw,
    settings=(BOOTSTRAP,),
    needs=lambda study: LABELS in study.analysis.probe.labels,  # an ordinary ImageFolder has none
)
