"""Appendix, Figure E.2 of the paper: tokens of a few images in two dimensions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import Drawing, Figure, Frames
from cl_vs_mim.figures.sources import Table

COLUMNS = ("image", "group", "depth", "perplexity", "row", "col", "x", "y")
PURITY_COLUMNS = ("metric", "image", "depth", "perplexity", "neighbours", "value")
_CLASSES = ("#009e73", "#e69f00", "#7f4fa8", "#56b4e9", "#000000")  # apart from the colours of CL and MIM
_IMAGES = "o^sDvP<>*X"


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: of another study, of different images, or a block is missing.
    """
    frame, purity = frames["tokens"], frames["purity"]
    if len(set(frame.groupby("model")["image"].unique().map(frozenset))) > 1:
        raise UserError("embeddings of different images cannot be drawn together; rebuild them")
    perplexity = study.analysis.embedding.perplexity
    seeds = frame["seed"] == frame.groupby("model")["seed"].transform("min")
    frame = frame[seeds & np.isclose(frame["perplexity"], perplexity)]
    purity = purity[np.isclose(purity["perplexity"], perplexity)]
    shares = purity.groupby(["model", "depth", "metric"])["value"].mean()
    models = list(dict.fromkeys(frame["model"]))
    groups = dict(zip(dict.fromkeys(frame["group"]), _CLASSES * 9, strict=False))
    columns = int(frame.groupby("model")["depth"].nunique().max())

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 1.75 * int(np.ceil(len(models) / 2)) + 0.8)
        panels = figure.subplots(int(np.ceil(len(models) / 2)), 2 * columns, squeeze=False)
        for place, model in enumerate(models):
            group = frame[frame["model"] == model]
            row, half = divmod(place, 2)
            for column, (depth, rows) in enumerate(group.groupby("depth")):
                axes = panels[row, half * columns + column]
                for name, tokens in rows.groupby("group", sort=False):
                    for marker, (_, image) in zip(_IMAGES * 9, tokens.groupby("image", sort=False), strict=False):
                        axes.plot(image["x"], image["y"], marker, color=groups[name], markersize=1.8, mew=0, alpha=0.8)
                values = [shares.get((model, depth, metric), np.nan) for metric in ("image_purity", "class_purity")]
                axes.set_title(f"block {depth}: {values[0]:.2f} / {values[1]:.2f}", fontsize=7, pad=2)
                style.bare(axes, frame=True)
            panels[row, half * columns].set_ylabel(group["label"].iloc[0].replace("untrained ", "untrained\n"))
        for axes in panels.flat:
            axes.set_visible(bool(axes.has_data()))
        dot = {"marker": "o", "linestyle": "none"}
        handles = [Line2D([], [], color=color, label=name, **dot) for name, color in groups.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        neighbours = int(purity["neighbours"].iloc[0])
        note = f"Numbers: purity of the {neighbours} nearest neighbours by image / by class; perplexity {perplexity:g}."
        style.add_footer(figure, style.describe(study, frame, note, study.pair()))
    drawn = [frame.assign(kind="token"), shares.rename("value").reset_index().assign(kind="purity")]
    return figure, pd.concat(drawn, ignore_index=True).astype(dict.fromkeys(["row", "col", "seed"], "Int64"))


FIGURE = Figure(
    title="Appendix: t-SNE of tokens",
    caption=(
        "Every patch token of a few images of three classes (colour: class; marker: image) by t-SNE, in two blocks; "
        "scikit-learn with the settings of the authors' notebook and a seed. Above each panel: share of the nearest "
        "neighbours of a token that are of its image, and of its class; mean over images. The depth of the "
        "published figure is unknown. Lower rows: the untrained encoder of each architecture."
    ),
    reads={"tokens": Table("embedding", "pair", COLUMNS), "purity": Table("embedding_purity", "pair", PURITY_COLUMNS)},
    draw=draw,
    settings=("analysis.embedding",),
)
