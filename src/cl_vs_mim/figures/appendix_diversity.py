"""Appendix: the variants of Figure 5 that it does not draw, because the paper does not say which it used."""

from __future__ import annotations

from cl_vs_mim.config import Study
from cl_vs_mim.figures.fig05 import COLUMNS, draw_panels
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.sources import Table

_OTHER = {"attention": "blocks", "blocks": "attention"}


def draw(frames: Frames, study: Study) -> Drawing:
    """The figure and what is drawn, as :func:`cl_vs_mim.figures.fig05.draw`."""
    variant = study.figures.diversity
    tokens = "heads" if variant.tokens == "blocks" else "blocks"
    metrics = [f"depth_similarity_{_OTHER[variant.depths]}", f"token_similarity_{tokens}"]
    return draw_panels(frames["diversity"], metrics, study)


FIGURE = Figure(
    title="Appendix: other definitions of similarity between depths and positions",
    caption=(
        "As Figure 5, with the definitions that it does not use: depth similarity around a whole block (or around "
        "self-attention), token similarity on the tokens that a block gives out (or on the outputs of its heads)."
    ),
    reads={"diversity": Table("diversity", "pair", COLUMNS)},
    draw=draw,
    settings=(BOOTSTRAP, "figures.diversity"),
)
