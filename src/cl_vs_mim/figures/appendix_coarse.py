"""Appendix: coarse-grained classification. Does a probe know a category by its objects, or only the objects it saw?

Contrastive features are claimed to serve classification; an object never trained on asks for more than telling known
objects apart. All encoders of the study are drawn.
"""

from __future__ import annotations

import argparse

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.figures import style
from cl_vs_mim.figures.cli import figure_parser
from cl_vs_mim.figures.curves import drawn_columns, shared_legend
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
from cl_vs_mim.figures.tables import of_study, paradigms, read_tables

TITLE = "Appendix: coarse-grained linear probes of every depth"
CAPTION = (
    "Top-1 accuracy of a linear probe that names the category of an object, with a bootstrap band over images. Left: "
    "new images of the objects trained on. Right: objects of the same categories of which neither encoder nor probe "
    "saw any image. Above the mean of the patch tokens, below CLS. Features of one pass without augmentation (protocol "
    "cached); learning rate chosen on training images held back. The paper's coarse-grained protocol is unknown; the "
    "categories are those of the composed images. Grey: untrained encoders. Dotted: always naming the commonest "
    "category of the training images; categories differ in size."
)
LABELS = "category"
SPLITS = {"val": "objects trained on, new images", "heldout": "objects never trained on"}


def draw(frame: pd.DataFrame, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn.

    Args:
        frame: rows of the linear-probe tables of all encoders.
        study: whose figure it is.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    frame = of_labels(of_study(frame, study), LABELS)
    check_probes(frame, study)
    curves, chance = accuracy_curves(frame, study), chance_rows(frame)
    splits = [name for name in SPLITS if name in set(frame["split"])]

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE if len(splits) > 1 else style.SINGLE, 5.2)
        panels = figure.subplots(len(POOLINGS), len(splits), sharex=True, sharey=True, squeeze=False)
        styles = style.series_styles(paradigms(frame))
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


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    figure, drawn = draw(read_tables(arguments.tables, COLUMNS), study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    run_cli(main, figure_parser(TITLE))
