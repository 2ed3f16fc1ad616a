"""Appendix: every method of the study beside the main pair."""

from __future__ import annotations

import argparse

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.figures import style
from cl_vs_mim.figures.overview import draw_overview, overview_parser, run_overview

TITLE = "Appendix: all methods of the study"
CAPTION = (
    "The quantities of Figures 3, 4, 5 (c) and 8 against relative depth, for every pre-trained encoder of the study "
    "and the untrained encoder of each architecture. The paper's appendix shows DINO, MAE and BEiT beside its pair; "
    "those that the study does not have are named below the figure."
)
PAPER = {"moco_v3": "MoCo v3", "simmim": "SimMIM", "dino": "DINO", "mae": "MAE", "beit": "BEiT"}


def draw(frame: pd.DataFrame, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn; ``frame`` as of :func:`cl_vs_mim.figures.overview.read_overview`."""
    absent = [label for method, label in PAPER.items() if method not in set(frame["method"])]
    note = f"The paper's methods that are missing here: {', '.join(absent)}." if absent else ""
    return draw_overview(frame, study, note)


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    figure, drawn = run_overview(arguments, draw, study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    run_cli(main, overview_parser(TITLE))
