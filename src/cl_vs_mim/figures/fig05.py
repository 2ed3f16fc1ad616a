"""Figure 5: how alike heads, depths and positions are.

Contrastive encoders are claimed to have more similar heads, depths and tokens in their late blocks (claims C11 to
C13). Uniform attention makes the outputs of a head alike at all positions, and a small LayerScale makes all depths
alike: both are so without training, hence the controls.
"""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import draw_curves, drawn_columns, level_note, shared_legend
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.sources import Table
from cl_vs_mim.figures.tables import check_complete, depth_curves

COLUMNS = ("image", "depth", "head", "metric", "value")
LABELS = {
    "head_similarity": "cosine between heads",
    "depth_similarity_attention": "cosine around self-attention",
    "depth_similarity_blocks": "cosine around a block",
    "token_similarity_heads": "cosine between positions\n(outputs of a head)",
    "token_similarity_blocks": "cosine between positions\n(tokens of a block)",
}


def draw_panels(frame: pd.DataFrame, metrics: list[str], study: Study) -> Drawing:
    """A panel for each metric against depth, for all models of ``frame``."""
    check_complete(frame, study)
    styles = series_styles(study)
    curves = [depth_curves(frame, metric, study.figures.bootstrap) for metric in metrics]
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 2.9)
        panels = figure.subplots(1, len(metrics))
        for letter, axes, metric, rows in zip("abc", panels, metrics, curves, strict=False):
            draw_curves(axes, rows, styles)
            axes.set_ylabel(LABELS[metric])
            axes.set_title(f"({letter})", loc="left")
            lowest, highest = rows["value"].agg(["min", "max"])
            margin = 0.06 * (highest - lowest)
            axes.set_ylim(lowest - margin, highest + margin)
        shared_legend(figure, *panels)
        style.add_footer(figure, style.describe(study, frame, level_note(study), study.pair()))
    return figure, drawn_columns(pd.concat(curves, ignore_index=True))


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    variant = study.figures.diversity
    metrics = ["head_similarity", f"depth_similarity_{variant.depths}", f"token_similarity_{variant.tokens}"]
    return draw_panels(frames["diversity"], metrics, study)


FIGURE = Figure(
    title="Figure 5: similarity between heads, depths and positions",
    caption=(
        "Mean cosine (a) between the outputs of two heads at the same token, (b) between a token and itself further "
        "on, (c) between two positions of an image. CLS dropped; mean over images, with a bootstrap band over "
        "images; dots in (c): heads. Grey: the untrained encoder of each architecture. The paper's exact tensors "
        "are unknown: (a) and the default of (c) use each head's output before the projection, the default of (b) a "
        "token before and after the self-attention residual; the other variants are in appendix_diversity. No "
        "published values."
    ),
    reads={"diversity": Table("diversity", "pair", COLUMNS)},
    draw=draw,
    settings=(BOOTSTRAP, "figures.diversity"),
)
