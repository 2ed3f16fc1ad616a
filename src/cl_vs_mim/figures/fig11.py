"""Figure 11: frequencies through MAE's encoder and decoder, and what the decoders paint.

An explicit decoder is claimed to take over the low-frequency work, so that MAE's encoder keeps high frequencies up to
its end where SimMIM's last blocks drop (claims C26 and C27).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import draw_reference, drawn_columns
from cl_vs_mim.figures.fig08 import COLUMNS, METRIC, highest
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.sources import Reference, Table
from cl_vs_mim.figures.states import draw_state_curves, state_curves

PICTURE_COLUMNS = ("image", "kind", "row", "col", "red", "green", "blue", "masked_share")
METHODS = {"mae": "MAE", "simmim": "SimMIM"}
_PUBLISHED_BLOCKS = 12


def drawn_models(study: Study) -> list[str]:
    """The study's first model of each method with a decoder, and the control of MAE's architecture."""
    first: dict[str, str] = {}
    for name, model in study.models.items():
        first.setdefault(model.method, name)
    chosen = [first[method] for method in METHODS if method in first]
    control = [f"untrained_{study.models[first['mae']].architecture}"] if "mae" in first else []
    return chosen + control


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: of another study, of different grids, or nothing to draw.
    """
    fourier, decoder, pictures = frames["fourier"], frames["decoder"], frames["pictures"]
    pictures = pictures[pictures["seed"] == pictures.groupby("model")["seed"].transform("min")]
    fourier = fourier[fourier["model"].isin(drawn_models(study))]
    if fourier.empty:
        raise UserError(f"no table is of a model with a decoder ({', '.join(METHODS)})")
    rows, last = highest(fourier)
    curves = [state_curves(rows, METRIC, study).assign(part="encoder")]
    if len(decoder):
        inside = decoder[np.isclose(decoder["frequency"], last)]
        curves.append(state_curves(inside, METRIC, study).assign(part="decoder"))
    styles = series_styles(study)
    published = _published(frames["reference"], curves)
    painted = [name for name in drawn_models(study) if name in set(pictures["model"])]

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.6)
        left, right = figure.subfigures(1, 2, width_ratios=[1, 1])
        axes = left.subplots()
        draw_reference(axes, published, "published (ViT-B/16)", named=True)
        draw_state_curves(axes, curves[0], styles)
        if len(curves) > 1:
            labelled = len(axes.lines)
            draw_state_curves(axes, curves[1], styles)
            for line in axes.lines[labelled:]:
                line.set_label("_nolegend_")
            axes.axvline(curves[1]["depth"].min(), color="black", linewidth=0.6, linestyle=":")
            axes.set_xlim(-0.3, curves[1]["depth"].max() + 0.3)
            axes.text(curves[1]["depth"].min() + 0.1, 0.98, "decoder", transform=axes.get_xaxis_transform(), va="top")
        axes.set_ylabel(rf"$\Delta$ log amplitude at {last:.2f} $\pi$")
        left.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        images = list(dict.fromkeys(pictures["image"]))
        if painted:
            _draw_strip(right, pictures, painted, images)
        absent = [
            name for name, method in (("MAE", "mae"), ("SimMIM", "simmim")) if method not in set(fourier["method"])
        ]
        note = f"Missing: {', '.join(absent)}." if absent else ""
        note += f" Band: {study.figures.bootstrap.level:.0%} bootstrap over images."
        style.add_footer(figure, style.describe(study, fourier, note.strip(), drawn_models(study)))
    drawn = pd.concat([*curves, published], ignore_index=True)
    return figure, drawn_columns(drawn)


def _published(reference: pd.DataFrame, curves: list[pd.DataFrame]) -> pd.DataFrame:
    """MAE's published encoder and decoder and SimMIM's curve, each stretched to our depths."""
    rows = published_curves(reference, "fig11").rename(columns={"depth": "published_depth"})
    deepest = curves[0]["depth"].max()
    blocks = curves[1]["depth"].max() - deepest if len(curves) > 1 else 0
    inside = rows["panel"].str.contains("decoder")
    encoder = rows["published_depth"] / _PUBLISHED_BLOCKS * deepest
    last = rows["published_depth"].max() - _PUBLISHED_BLOCKS
    decoder = deepest + (rows["published_depth"] - _PUBLISHED_BLOCKS) / last * blocks
    rows = rows.assign(depth=encoder.where(~inside, decoder), kind="reference", metric=METRIC)
    return rows if blocks else rows[~inside]


def _draw_strip(part: FigureBase, pictures: pd.DataFrame, models: list[str], images: list[str]) -> None:
    """Rows: original, then masked and reconstructed for each model; columns: images."""
    rows = [("original", models[0], "original")]
    for model in models:
        group = pictures[pictures["model"] == model]
        label = group["label"].iloc[0]
        share = group["masked_share"].iloc[0]
        rows += [("masked", model, f"{label}\n{share:.0%} hidden"), ("reconstructed", model, f"{label}\npaints")]
    panels = part.subplots(len(rows), len(images), squeeze=False)
    for line, (kind, model, label) in zip(panels, rows, strict=True):
        for axes, image in zip(line, images, strict=True):
            chosen = (pictures["kind"] == kind) & (pictures["model"] == model) & (pictures["image"] == image)
            _draw_picture(axes, pictures[chosen], f"{kind} {image} of {model}")
        line[0].set_ylabel(label, fontsize=6, rotation=0, ha="right", va="center")


def _draw_picture(axes: Axes, rows: pd.DataFrame, what: str) -> None:
    side = int(rows["row"].max()) + 1 if len(rows) else 0
    if side == 0 or len(rows) != side**2:
        raise UserError(f"the reconstruction table lacks pixels of {what}; rebuild it")
    picture = np.zeros((side, side, 3), dtype=np.uint8)
    picture[rows["row"], rows["col"]] = rows[["red", "green", "blue"]]
    axes.imshow(picture, interpolation="nearest")
    style.bare(axes)


FIGURE = Figure(
    title="Figure 11: MAE with its decoder",
    caption=(
        "Left: relative log amplitude at the highest frequency of the half diagonal against depth, through MAE's "
        "encoder and, right of the vertical line, its decoder (embedding and blocks); SimMIM, whose decoder is one "
        "layer, beside it; bootstrap band over images. Whether the paper fed masked images is unknown; ours are "
        "full. Grey: the untrained encoder of MAE's architecture. Faint: the published curves, encoder and decoder "
        "stretched to our depths. Right: masked images and what each decoder paints into the hidden patches; "
        "visible patches are the original's. An MAE trained on normalised patches is shown with each hidden patch's "
        "true mean and contrast, which it does not know."
    ),
    reads={
        "fourier": Table("fourier", "decoder_figure", COLUMNS),
        "decoder": Table("decoder_fourier", "decoders", COLUMNS, optional=True),
        "pictures": Table("reconstruction", "decoders", PICTURE_COLUMNS),
        "reference": Reference(),
    },
    draw=draw,
    settings=(BOOTSTRAP,),
)
