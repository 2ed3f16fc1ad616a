"""Appendix: every method of the study beside the main pair."""

from __future__ import annotations

from cl_vs_mim.config import Study
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.overview import draw_overview, overview, overview_reads

PAPER = {"moco_v3": "MoCo v3", "simmim": "SimMIM", "dino": "DINO", "mae": "MAE", "beit": "BEiT"}


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows."""
    frame = overview(frames, study)
    absent = [label for method, label in PAPER.items() if method not in set(frame["method"])]
    note = f"The paper's methods that are missing here: {', '.join(absent)}." if absent else ""
    return draw_overview(frame, study, note)


FIGURE = Figure(
    title="Appendix: all methods of the study",
    caption=(
        "The quantities of Figures 3, 4, 5 (c) and 8 against relative depth, for every pre-trained encoder of the "
        "study and the untrained encoder of each architecture. The paper's appendix shows DINO, MAE and BEiT beside "
        "its pair; those that the study does not have are named below the figure."
    ),
    reads=overview_reads("methods"),
    draw=draw,
    settings=(BOOTSTRAP, "figures.diversity"),
)
