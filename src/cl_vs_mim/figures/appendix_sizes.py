"""Appendix: the same method at several model sizes."""

from __future__ import annotations

import argparse

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.figures import style
from cl_vs_mim.figures.overview import draw_overview, overview_parser, run_overview

TITLE = "Appendix: model sizes"
CAPTION = (
    "The quantities of Figures 3, 4, 5 (c) and 8 against relative depth, for the methods of the main pair at every "
    "size (width and depth) that the study has, small to large. Dashed in the paper's Figure 5 (a): ViT-S."
)


def draw(frame: pd.DataFrame, study: Study) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn; ``frame`` as of :func:`cl_vs_mim.figures.overview.read_overview`."""
    methods = [study.models[name].objective.method for name in study.figures.pair]
    frame = frame[frame["method"].isin(methods)]
    sizes = {name: _size(study, name) for name in dict.fromkeys(frame["model"])}
    frame = frame.assign(label=[f"{row.label}, {_name(study, row.model)}" for row in frame.itertuples()])
    single = [
        study.models[name].label
        for name, method in zip(study.figures.pair, methods, strict=True)
        if len({sizes[model] for model in sizes if study.models[model].objective.method == method}) < 2
    ]
    note = f"One size only in this study: {', '.join(single)}; nothing can be said of size." if single else ""
    order = sorted(sizes, key=sizes.get)
    frame = frame.sort_values("model", key=lambda models: models.map(order.index), kind="stable")
    return draw_overview(frame, study, note)


def _size(study: Study, model: str) -> tuple[int, int]:
    architecture = study.architectures[study.models[model].architecture]
    return architecture.width, architecture.depth


def _name(study: Study, model: str) -> str:
    return study.architectures[study.models[model].architecture].label


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    figure, drawn = run_overview(arguments, draw, study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    run_cli(main, overview_parser(TITLE))
