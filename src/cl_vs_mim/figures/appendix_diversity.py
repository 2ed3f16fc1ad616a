"""Appendix: the variants of Figure 5 that it does not draw, because the paper does not say which it used."""

from __future__ import annotations

import argparse

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.figures import style
from cl_vs_mim.figures.cli import figure_parser
from cl_vs_mim.figures.fig05 import COLUMNS, draw_panels
from cl_vs_mim.figures.tables import of_pair, read_tables

TITLE = "Appendix: other definitions of similarity between depths and positions"
CAPTION = (
    "As Figure 5, with the definitions that it does not use: depth similarity around a whole block (or around "
    "self-attention), token similarity on the tokens that a block gives out (or on the outputs of its heads)."
)
_OTHER = {"attention": "blocks", "blocks": "attention"}


def draw(frame: pd.DataFrame, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn; arguments and errors as in :func:`cl_vs_mim.figures.fig05.draw`."""
    variant = study.figures.diversity
    tokens = "heads" if variant.tokens == "blocks" else "blocks"
    metrics = [f"depth_similarity_{_OTHER[variant.depths]}", f"token_similarity_{tokens}"]
    return draw_panels(of_pair(frame, study), metrics, study)


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    figure, drawn = draw(read_tables(arguments.tables, COLUMNS), study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    run_cli(main, figure_parser(TITLE))
