"""Figure 6: what self-attention does to the tokens of one image and of two.

Contrastive attention is claimed to move all tokens of an image by nearly one vector and so to push images apart,
masked-image attention to move each token on its own (claims C14 and C15).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.sources import Table
from cl_vs_mim.figures.states import pale

COLUMNS = ("image", "count", "place", "depth_before", "depth_after", "when", "row", "col", "x", "y")
MOVEMENT_COLUMNS = ("image", "depth", "metric", "value")
_PLACES = ("early", "late", "network")
_SECOND = "#d89c00"  # tokens of the second image


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: of another study, of different images, or a panel is missing.
    """
    frame, movement = frames["tokens"], frames["movement"]
    if len(set(frame.groupby("model")["image"].unique().map(frozenset))) > 1:
        raise UserError("movement_tokens tables of different images cannot be drawn together; rebuild them")
    frame = frame[frame["seed"] == frame.groupby("model")["seed"].transform("min")]  # one seed of each is shown
    models = list(dict.fromkeys(frame["model"]))
    styles = series_styles(study)
    numbers = movement[movement["metric"] == "displacement_variation"].groupby(["model", "depth"])["value"].median()

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 1.15 * len(models) + 0.7)
        panels = figure.subplots(len(models), 6, squeeze=False)
        for row, model in zip(panels, models, strict=True):
            group = frame[frame["model"] == model]
            for column, (count, place) in enumerate((count, place) for count in (1, 2) for place in _PLACES):
                rows = group[(group["count"] == count) & (group["place"] == place)]
                if rows.empty:
                    raise UserError(f"table of {model} has no panel {place!r} of {count} image(s); rebuild it")
                axes = row[column]
                _draw_panel(axes, rows, styles[model].color)
                block = int(np.ceil(rows["depth_after"].iloc[0]))
                if place != "network" and count == 1:
                    axes.set_title(f"{numbers[model, block]:.2g}", fontsize=7, pad=2)
            label = group["label"].iloc[0].replace("untrained ", "untrained\n")
            row[0].set_ylabel(label)
        for column, (images, place) in enumerate(
            (images, place) for images in ("1 image", "2 images") for place in _PLACES
        ):
            blocks = {"early": study.analysis.movement.early, "late": study.analysis.movement.late}
            name = f"{place} ({blocks[place]})" if place in blocks else place
            old = panels[0, column].get_title()
            panels[0, column].set_title(f"{images}\n{name}\n{old}", fontsize=7, pad=2)
        _legend(figure)
        note = "Number: spread of the displacement over its mean, squared; 0 when all tokens move alike."
        style.add_footer(figure, style.describe(study, frame, note, study.pair()))
    constants = numbers.rename("value").reset_index().assign(kind="displacement_variation")
    whole = ["count", "row", "col", "seed"]
    drawn = pd.concat([frame.assign(kind="token"), constants], ignore_index=True)
    return figure, drawn.astype(dict.fromkeys(whole, "Int64"))


def _draw_panel(axes: Axes, rows: pd.DataFrame, color: str) -> None:
    for number, (_, tokens) in enumerate(rows.groupby("image", sort=False)):
        tint = color if number == 0 else _SECOND
        means = []
        for when, shade in (("before", pale(tint, [0.75])[0]), ("after", tint)):
            points = tokens.loc[tokens["when"] == when, ["x", "y"]].to_numpy()
            axes.plot(*points.T, "oD"[number], color=shade, markersize=1.6, markeredgewidth=0, alpha=0.9)
            means.append(points.mean(axis=0))
        axes.annotate(
            "", xy=means[1], xytext=means[0], arrowprops={"arrowstyle": "-|>", "linewidth": 0.8, "mutation_scale": 6}
        )
        for mean in means:
            axes.plot(*mean, "x", color="black", markersize=4, markeredgewidth=1)
    style.bare(axes, frame=True)
    axes.margins(0.08)


def _legend(figure: FigureBase) -> None:
    point = {"linestyle": "none", "markersize": 3.5, "markeredgewidth": 0}
    handles = [
        Line2D([], [], marker="o", color="#c9c9c9", label="before", **point),
        Line2D([], [], marker="o", color="#555555", label="after", **point),
        Line2D([], [], marker="D", color=_SECOND, label="second image", **point),
        Line2D([], [], marker="x", color="black", linestyle="none", markersize=4, label="mean token"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)


FIGURE = Figure(
    title="Figure 6: tokens before and after self-attention",
    caption=(
        "Patch tokens of one image (left half) and of two (right half; circles and diamonds), projected on their "
        "two leading singular vectors: pale before, full after the self-attention residual of an early and of a "
        "late block, and from the embedding to the last block's output (network). Crosses: mean tokens; arrows: "
        "their shift. Above each panel of one image: variance of the tokens' displacement over the squared "
        "displacement of the mean, median over all analysed images. Image, blocks and basis are unknown in the "
        "paper: here one centred singular value decomposition for all panels of an encoder, unless the study says "
        "otherwise. Lower rows: untrained encoders."
    ),
    reads={
        "tokens": Table("movement_tokens", "pair", COLUMNS),
        "movement": Table("movement", "pair", MOVEMENT_COLUMNS),
    },
    draw=draw,
    settings=("analysis.movement",),
)
