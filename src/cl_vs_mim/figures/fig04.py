"""Figure 4: how much attention depends on the query, block by block, and the entropy that explains a zero.

The normalised mutual information is 0 when all queries share one map. That map may be uniform, as before any training,
or a single key: the entropy beside it tells the two apart (1 uniform, 0 a single key).
"""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
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
from cl_vs_mim.figures.fig03 import COLUMNS
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.sources import Reference, Table
from cl_vs_mim.figures.tables import check_complete, depth_curves

_PUBLISHED = "notebook_fig4"
_MARGIN = 0.03  # of the axis, below 0: a control at NMI 0 would lie under the frame
_ZERO = "NMI is 0 for uniform attention and for one key shared by all queries: the entropy (1 or 0) tells which."


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    frame = frames["attention"]
    check_complete(frame, study)
    information = depth_curves(frame, "nmi", study.figures.bootstrap)
    entropy = depth_curves(frame, "attention_entropy", study.figures.bootstrap)
    published = published_curves(frames["reference"], _PUBLISHED)
    published = reference_rows(published, int(information["depth"].max()), 1.0, "nmi")
    styles = series_styles(study)

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.5)
        left, right = figure.subplots(1, 2)
        draw_reference(left, published, "MoCo v3 ViT-B/16, authors' notebook")
        draw_curves(left, information, styles)
        left.set_ylabel("normalised mutual information")
        left.set_ylim(bottom=-_MARGIN * left.get_ylim()[1])
        draw_curves(right, entropy, styles)
        right.set_ylabel("attention entropy / log N")
        low = min(0.8, entropy["value"].min() - 0.02)
        right.set_ylim(max(0.0, low), 1.02)
        right.axhline(1, color="black", linestyle=":", linewidth=0.9, zorder=1, label="uniform attention")
        shared_legend(figure, left, right)
        style.add_footer(figure, style.describe(study, frame, f"{level_note(study)} {_ZERO}", study.pair()))
    rows = [information, entropy, uniform_row("attention_entropy", 1.0), published]
    return figure, drawn_columns(pd.concat(rows, ignore_index=True))


FIGURE = Figure(
    title="Figure 4: normalised mutual information",
    caption=(
        "Left: normalised mutual information of query and key, 0 when the map does not depend on the query, 1 when "
        "each query has a key of its own. Right: entropy of the rows over log N, 1 for uniform attention, 0 for a "
        "single key. CLS dropped; mean over images and heads, with a bootstrap band over images and a dot for each "
        "head. Grey: the untrained encoder of each architecture. Faint: the authors' notebook curve for MoCo v3 "
        "ViT-B/16 at equal relative depth."
    ),
    reads={"attention": Table("attention", "pair", COLUMNS), "reference": Reference()},
    draw=draw,
    settings=(BOOTSTRAP,),
)
