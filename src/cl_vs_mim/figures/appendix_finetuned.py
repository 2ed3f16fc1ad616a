"""Appendix: encoders before and after fine-tuning."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.figures import style
from cl_vs_mim.figures.overview import draw_overview, overview_parser, run_overview
from cl_vs_mim.figures.tables import paradigms

TITLE = "Appendix: pre-trained and fine-tuned encoders"
CAPTION = (
    "The quantities of Figures 3, 4, 5 (c) and 8 against relative depth, for the main pair as pre-trained and, hollow, "
    "after fine-tuning. Rows of fine-tuned encoders have the column stage set to finetuned."
)
_SUFFIX = ", fine-tuned"


def draw(frame: pd.DataFrame, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn; ``frame`` as of :func:`cl_vs_mim.figures.overview.read_overview`.

    Tables of fine-tuned encoders have a column ``stage`` that says ``finetuned``; without it a row is of a
    pre-trained encoder.
    """
    frame = frame[frame["model"].isin(study.figures.pair)].copy()
    styles = style.series_styles(paradigms(frame))
    stage = frame["stage"] if "stage" in frame else pd.Series("pretrained", index=frame.index)
    tuned = stage == "finetuned"
    frame.loc[tuned, "label"] += _SUFFIX
    frame.loc[tuned, "model"] += _SUFFIX
    styles |= {f"{name}{_SUFFIX}": replace(look, hollow=True) for name, look in styles.items()}
    absent = [study.models[name].label for name in study.figures.pair if f"{name}{_SUFFIX}" not in set(frame["model"])]
    note = f"No fine-tuned encoder in this study of: {', '.join(absent)}." if absent else ""
    return draw_overview(frame, study, note, {name: styles[name] for name in dict.fromkeys(frame["model"])})


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    figure, drawn = run_overview(arguments, draw, study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    run_cli(main, overview_parser(TITLE))
