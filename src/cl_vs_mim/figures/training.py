"""The training of every encoder of the study in one picture."""

from __future__ import annotations

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.sources import Table

COLUMNS = ("model", "label", "seed", "step", "loss", "feature_std", "nmi", "grad_norm")
_PANELS = {
    "relative_loss": "loss / first loss",
    "feature_std": "feature standard deviation",
    "nmi": "NMI of the last block",
    "grad_norm": "gradient norm",
}


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: a run of a model that the study does not have.
    """
    frame = frames["log"]
    order = {name: place for place, name in enumerate(study.models)}
    frame = frame.sort_values(["model", "seed", "step"], key=lambda c: c.map(order) if c.name == "model" else c)
    runs = frame.groupby(["model", "seed"], sort=False)
    frame = frame.assign(
        relative_loss=frame["loss"] / runs["loss"].transform("first"),
        share=frame["step"] / runs["step"].transform("max"),
    )
    styles = series_styles(study)
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 4.6)
        panels = figure.subplots(2, 2, sharex=True)
        for axes, (column, label) in zip(panels.flat, _PANELS.items(), strict=True):
            for (model, _), rows in frame.groupby(["model", "seed"], sort=False):
                look = {**styles[model].line(), "markersize": 3, "linewidth": 1.0}
                drawn = rows.dropna(subset=[column])
                look["markevery"] = max(1, len(drawn) // 8)
                axes.plot(drawn["share"], drawn[column], label=study.models[model].label, **look)
            axes.set_ylabel(label)
        panels[1, 1].set_yscale("log")
        for axes in panels[1]:
            axes.set_xlabel("share of training")
        handles = dict(zip(*reversed(panels[0, 0].get_legend_handles_labels()), strict=True))  # one for all seeds
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(4, len(handles)))
        reduced = "Reduced study" if study.reduced else "Study"
        seeds = ", ".join(map(str, sorted(frame["seed"].unique())))
        style.add_footer(figure, f"{reduced}: {study.study} ({study.title}). Seeds {seeds}.")
    first = ["model", "label", "seed", "step", "share", *_PANELS, "loss"]
    return figure, frame[first + [name for name in frame if name not in first]]


FIGURE = Figure(
    title="Training curves",
    caption=(
        "Loss of each run divided by its first logged value (the losses of different methods do not compare), "
        "standard deviation of the normalised features of a batch (0: collapse), normalised mutual information of "
        "the last block's attention on fixed training images after every epoch (0: all queries look alike), and "
        "gradient norm before clipping, against the share of training that is done."
    ),
    reads={"log": Table("training", "recorded", COLUMNS, suffix=".csv")},
    draw=draw,
)
