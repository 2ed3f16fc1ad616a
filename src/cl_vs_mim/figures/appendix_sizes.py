"""Appendix: the same method at several model sizes."""

from __future__ import annotations

from cl_vs_mim.config import Study
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.overview import draw_overview, overview, overview_reads


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows."""
    frame = overview(frames, study)
    methods = [study.models[name].method for name in study.figures.pair]
    frame = frame[frame["method"].isin(methods)]
    sizes = {name: _size(study, name) for name in dict.fromkeys(frame["model"])}
    frame = frame.assign(label=[f"{row.label}, {_name(study, row.model)}" for row in frame.itertuples()])
    single = [
        study.models[name].label
        for name, method in zip(study.figures.pair, methods, strict=True)
        if len({sizes[model] for model in sizes if study.models[model].method == method}) < 2
    ]
    note = f"One size only in this study: {', '.join(single)}; nothing can be said of size." if single else ""
    order = sorted(sizes, key=lambda name: sizes[name])
    frame = frame.sort_values("model", key=lambda models: models.map(order.index), kind="stable")
    return draw_overview(frame, study, note)


def _size(study: Study, model: str) -> tuple[int, int]:
    architecture = study.architectures[study.models[model].architecture]
    return architecture.width, architecture.depth


def _name(study: Study, model: str) -> str:
    return study.architectures[study.models[model].architecture].label


FIGURE = Figure(
    title="Appendix: model sizes",
    caption=(
        "The quantities of Figures 3, 4, 5 (c) and 8 against relative depth, for the methods of the main pair at "
        "every size (width and depth) that the study has, small to large. Dashed in the paper's Figure 5 (a): "
        "ViT-S."
    ),
    reads=overview_reads("analysed"),
    draw=draw,
    settings=(BOOTSTRAP, "figures.diversity", "figures.pair"),
)
