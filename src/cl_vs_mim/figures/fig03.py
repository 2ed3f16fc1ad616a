"""Figure 3: how far attention looks, block by block.

Contrastive encoders are claimed to look farther than masked-image ones, above all in the later blocks (claim C7). An
untrained encoder attends almost uniformly, which is far: a curve near the dotted line proves nothing by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.figures import style
from cl_vs_mim.figures.cli import REFERENCE, figure_parser
from cl_vs_mim.figures.curves import (
    draw_curves,
    draw_reference,
    drawn_columns,
    level_note,
    reference_rows,
    shared_legend,
    uniform_row,
)
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.tables import check_complete, depth_curves, of_pair, paradigms, read_tables
from cl_vs_mim.metrics.attention import uniform_attention_distance

TITLE = "Figure 3: attention distance"
CAPTION = (
    "Mean distance in pixels between a query patch and the patches it attends to, CLS dropped, rows normalised again; "
    "mean over images, heads and queries, with a bootstrap band over images and a dot for each head. Grey: the "
    "untrained encoder of each architecture. Dotted: uniform attention. Faint: the authors' notebook curve for "
    "MoCo v3 ViT-B/16 at equal relative depth, scaled by the uniform-attention distance of the two grids."
)
COLUMNS = ("image", "depth", "head", "metric", "value", "grid", "patch_size")
METRIC = "attention_distance"
_PUBLISHED, _PUBLISHED_GRID, _PUBLISHED_PATCH = "notebook_fig3", 14, 16  # ViT-B/16 at 224 px


def draw(frame: pd.DataFrame, reference: Path, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn.

    Args:
        frame: rows of the attention tables of all encoders.
        reference: the table of published values.
        study: whose figure it is.

    Raises:
        UserError: the tables are incomplete, of another study, or their encoders have different grids.
    """
    frame = of_pair(frame, study)
    check_complete(frame, study)
    shapes = frame[["grid", "patch_size"]].drop_duplicates()
    if len(shapes) > 1:
        listed = ", ".join(f"{grid}x{grid} patches of {patch} px" for grid, patch in shapes.itertuples(index=False))
        raise UserError(f"distances on different grids cannot share an axis ({listed}); draw them apart")
    uniform = uniform_attention_distance(*(int(value) for value in shapes.iloc[0]))
    curves = depth_curves(frame, METRIC, study.figures.bootstrap)
    deepest = int(curves["depth"].max())
    published = published_curves(reference, _PUBLISHED)
    scale = uniform / uniform_attention_distance(_PUBLISHED_GRID, _PUBLISHED_PATCH)
    published = reference_rows(published, deepest, scale, METRIC)

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.3)
        axes = figure.subplots()
        draw_reference(axes, published, "MoCo v3 ViT-B/16, authors' notebook, scaled")
        draw_curves(axes, curves, style.series_styles(paradigms(frame)))
        axes.axhline(uniform, color="black", linestyle=":", linewidth=0.9, zorder=1, label="uniform attention")
        axes.set_ylabel("attention distance (px)")
        axes.set_ylim(bottom=0)
        share = axes.secondary_yaxis("right", functions=(lambda y: y / uniform, lambda y: y * uniform))
        share.set_ylabel("fraction of uniform attention")
        shared_legend(figure, axes)
        style.add_footer(figure, style.describe(study, frame, level_note(study), study.pair()))
    return figure, drawn_columns(pd.concat([curves, uniform_row(METRIC, uniform), published], ignore_index=True))


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    figure, drawn = draw(read_tables(arguments.tables, COLUMNS), arguments.reference, study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    run_cli(main, figure_parser(TITLE, **REFERENCE))
