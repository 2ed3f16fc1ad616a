"""Appendix: encoders before and after fine-tuning."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.overview import draw_overview, overview, overview_reads
from cl_vs_mim.figures.sources import Table

_SUFFIX = ", fine-tuned"


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the two stages were measured on different images.
    """
    stages: dict[str, dict[str, pd.DataFrame]] = {"": {}, _SUFFIX: {}}
    for kind in overview_reads("pair_trained"):
        before, after = frames[kind], frames[f"finetuned_{kind}"]
        if len(hashes := {*before["data_hash"], *after["data_hash"]}) > 1:
            raise UserError(f"{kind} tables of different images cannot be drawn together ({', '.join(hashes)})")
        stages[""][kind], stages[_SUFFIX][kind] = before, after
    found = [overview(stage, study).assign(stage=suffix) for suffix, stage in stages.items() if len(stage["attention"])]
    frame = pd.concat(found, ignore_index=True)
    frame["label"] += frame["stage"]
    frame["model"] += frame["stage"]
    styles = series_styles(study)
    styles |= {f"{name}{_SUFFIX}": replace(look, hollow=True) for name, look in styles.items()}
    order = {name: place for place, name in enumerate(name + suffix for name in study.models for suffix in stages)}
    frame = frame.sort_values("model", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    absent = [study.models[name].label for name in study.figures.pair if f"{name}{_SUFFIX}" not in set(frame["model"])]
    note = f"No fine-tuned encoder in this study of: {', '.join(absent)}." if absent else ""
    return draw_overview(frame, study, note, styles)


def _reads() -> dict[str, Table]:
    before = overview_reads("pair_trained")
    after = {name: replace(one, kind=f"finetuned/{one.kind}", optional=True) for name, one in before.items()}
    return before | {f"finetuned_{name}": one for name, one in after.items()}


FIGURE = Figure(
    title="Appendix: pre-trained and fine-tuned encoders",
    caption=(
        "The quantities of Figures 3, 4, 5 (c) and 8 against relative depth, for the main pair as pre-trained and, "
        "hollow, after fine-tuning. Rows of fine-tuned encoders have the column stage set to finetuned."
    ),
    reads=_reads(),
    draw=draw,
    settings=(BOOTSTRAP, "figures.diversity"),
)
