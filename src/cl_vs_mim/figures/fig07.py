"""Figure 7: how many directions the tokens of an image, and the images of a set, fill at each depth.

Token level: contrastive spectra are claimed to fall with depth, masked-image spectra to rise and fall at the end
(claim C16). Image level: the change with depth is claimed to be larger for contrastive encoders (claim C17).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import drawn_columns, shared_legend
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import SeriesStyle, series_styles
from cl_vs_mim.figures.sources import Table
from cl_vs_mim.figures.states import add_depth_bar, depth_axis, draw_by_depth, draw_state_curves, state_curves
from cl_vs_mim.figures.tables import check_complete, relative_depth

TOKEN_COLUMNS = ("image", "depth", "rank", "value")
IMAGE_COLUMNS = ("depth", "rank", "value", "low", "high", "images")


def rank_of(study: Study, ranks: int) -> int:
    """The rank at which depths are compared, 1 … ranks."""
    return max(1, round(study.figures.spectrum.rank_fraction * ranks))


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, of another study, or of different encoders.
    """
    tokens, images = frames["tokens"], frames["images"]
    if set(tokens["model"]) != set(images["model"]):
        raise UserError("the token_spectrum and image_spectrum tables are of different encoders; give both of each")
    ranks = tokens.groupby("model")["rank"].max()
    rank = rank_of(study, int(ranks.min()))
    chosen = tokens[tokens["rank"] == rank]
    check_complete(chosen, study, "outputs")
    token_curves = state_curves(chosen, "token_log_singular_value", study)
    image_curves = _image_curves(images, rank_of(study, int(images["rank"].max())))
    token_lines = tokens.groupby(["model", "depth", "rank"], sort=False)["value"].mean().reset_index()
    image_lines = images.groupby(["model", "depth", "rank"], sort=False)["value"].mean().reset_index()
    styles = series_styles(study)
    trained = [name for name in study.figures.pair if name in styles]

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 4.9)
        panels = figure.subplots(2, len(trained) + 1, squeeze=False, width_ratios=[*[1] * len(trained), 1.4])
        for row, lines, level in zip(panels, (token_lines, image_lines), ("token level", "image level"), strict=True):
            _draw_spectra(row[:-1], lines, trained, study, styles)
            row[0].set_ylabel(f"{level}\nln singular value")
        for axes, curves in ((panels[0, -1], token_curves), (panels[1, -1], image_curves)):
            draw_state_curves(axes, curves, styles)
            depth_axis(axes, curves["depth"].max())
            axes.set_ylabel(f"ln singular value at rank {curves['rank'].iloc[0] if 'rank' in curves else rank}")
        shared_legend(figure, panels[0, -1])
        note = f"Band: {study.figures.bootstrap.level:.0%} bootstrap over images."
        style.add_footer(figure, style.describe(study, tokens, note, study.pair()))
    drawn = [
        token_curves.assign(rank=rank, level="token"),
        image_curves.assign(level="image"),
        token_lines.assign(kind="line", level="token"),
        image_lines.assign(kind="line", level="image"),
    ]
    return figure, drawn_columns(pd.concat(drawn, ignore_index=True))


def _draw_spectra(
    panels: Sequence[Axes], lines: pd.DataFrame, trained: list[str], study: Study, styles: dict[str, SeriesStyle]
) -> None:
    shown = lines[lines["model"].isin(trained)]
    low, high = shown["value"].min(), shown["value"].max()
    for axes, model in zip(panels, trained, strict=True):
        group = lines[lines["model"] == model]
        draw_by_depth(axes, group, "rank", styles[model].color)
        axes.set_title(study.models[model].label)
        axes.set_xlabel("rank")
        axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        add_depth_bar(axes, styles[model].color, group["depth"].max())


def _image_curves(images: pd.DataFrame, rank: int) -> pd.DataFrame:
    """Rows like those of ``state_curves`` from tables that hold their own interval; seeds are averaged."""
    rows = images[images["rank"] == rank]
    keys = ["model", "label", "method", "paradigm", "architecture", "depth"]
    curves = rows.groupby(keys, sort=False, as_index=False)[["value", "low", "high"]].mean()
    deepest = curves.groupby("model")["depth"].transform("max")
    curves["relative_depth"] = [relative_depth(*pair, 0) for pair in zip(curves["depth"], deepest, strict=True)]
    seeds = rows.groupby("model")["seed"].nunique()
    extra = {"kind": "mean", "metric": "image_log_singular_value", "rank": rank, "images": rows["images"].iloc[0]}
    return curves.assign(**extra, seeds=curves["model"].map(seeds))


FIGURE = Figure(
    title="Figure 7: singular value spectra of the tokens",
    caption=(
        "Natural logarithm of the singular values of the covariance of the patch tokens (CLS dropped, float64). "
        "Upper row, token level: over the tokens of one image, mean of the logarithms over images. Lower row, image "
        "level: over the mean tokens of all images. Left and middle: against rank, one line per block output, paler "
        "is deeper. Right: at one rank against depth, with a bootstrap interval over images (token level: "
        "percentile; image level: Bayesian bootstrap). The values scale with the tokens: compare directions, not "
        "heights. The paper's rank, batch size and normalisation are unknown; ours are choices of the study. Grey: "
        "the untrained encoder of each architecture."
    ),
    reads={
        "tokens": Table("token_spectrum", "pair", TOKEN_COLUMNS),
        "images": Table("image_spectrum", "pair", IMAGE_COLUMNS),
    },
    draw=draw,
    settings=(BOOTSTRAP, "figures.spectrum"),
)
