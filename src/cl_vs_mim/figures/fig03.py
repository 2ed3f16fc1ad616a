"""Figure 3: how far attention looks, block by block.

Contrastive encoders are claimed to look farther than masked-image ones, above all in the later blocks (claim C7). An
untrained encoder attends almost uniformly, which is far: a curve near the dotted line proves nothing by itself.
"""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import (
    draw_curves,
    draw_reference,
    drawn_columns,
    level_note,
    reference_rows,
    shared_legend,
    uniform_row,
)
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.sources import Reference, Table
from cl_vs_mim.figures.tables import check_complete, depth_curves
from cl_vs_mim.metrics.yardstick import uniform_attention_distance

COLUMNS = ("image", "depth", "head", "metric", "value", "grid", "patch_size")
METRIC = "attention_distance"
_PUBLISHED, _PUBLISHED_GRID, _PUBLISHED_PATCH = "notebook_fig3", 14, 16  # ViT-B/16 at 224 px


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, of another study, or their encoders have different grids.
    """
    frame = frames["attention"]
    check_complete(frame, study)
    shapes = frame[["grid", "patch_size"]].drop_duplicates()
    if len(shapes) > 1:
        listed = ", ".join(f"{grid}x{grid} patches of {patch} px" for grid, patch in shapes.itertuples(index=False))
        raise UserError(f"distances on different grids cannot share an axis ({listed}); draw them apart")
    uniform = uniform_attention_distance(*(int(value) for value in shapes.iloc[0]))
    curves = depth_curves(frame, METRIC, study.figures.bootstrap)
    deepest = int(curves["depth"].max())
    published = published_curves(frames["reference"], _PUBLISHED)
    scale = uniform / uniform_attention_distance(_PUBLISHED_GRID, _PUBLISHED_PATCH)
    published = reference_rows(published, deepest, scale, METRIC)

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.3)
        axes = figure.subplots()
        draw_reference(axes, published, "MoCo v3 ViT-B/16, authors' notebook, scaled")
        draw_curves(axes, curves, series_styles(study))
        axes.axhline(uniform, color="black", linestyle=":", linewidth=0.9, zorder=1, label="uniform attention")
        axes.set_ylabel("attention distance (px)")
        axes.set_ylim(bottom=0)
        share = axes.secondary_yaxis("right", functions=(lambda y: y / uniform, lambda y: y * uniform))
        share.set_ylabel("fraction of uniform attention")
        shared_legend(figure, axes)
        style.add_footer(figure, style.describe(study, frame, level_note(study), study.pair()))
    return figure, drawn_columns(pd.concat([curves, uniform_row(METRIC, uniform), published], ignore_index=True))


FIGURE = Figure(
    title="Figure 3: attention distance",
    caption=(
        "Mean distance in pixels between a query patch and the patches it attends to, CLS dropped, rows normalised "
        "again; mean over images, heads and queries, with a bootstrap band over images and a dot for each head. "
        "Grey: the untrained encoder of each architecture. Dotted: uniform attention. Faint: the authors' notebook "
        "curve for MoCo v3 ViT-B/16 at equal relative depth, scaled by the uniform-attention distance of the two "
        "grids."
    ),
    reads={"attention": Table("attention", "pair", COLUMNS), "reference": Reference()},
    draw=draw,
    settings=(BOOTSTRAP,),
)
