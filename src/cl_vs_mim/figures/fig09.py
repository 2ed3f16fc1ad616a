"""Figure 9: shape or texture, and which frequencies hurt.

Contrastive encoders are claimed to decide by shape, masked-image ones by texture (claim C21); noise of low frequency
is claimed to hurt the former more, of high frequency the latter (claim C22).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.intervals import bootstrap_mean
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import SeriesStyle, series_styles
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.sources import Reference, Table
from cl_vs_mim.figures.tables import SERIES

CUE_COLUMNS = ("image", "shape_group", "texture_group", "material", "decision", "labels", "pooling", "depth")
NOISE_COLUMNS = ("image", "width", "frequency", "value", "rms")
_PUBLISHED = "earlier_paper_fig9"


# ------------------------------------------------------------------------------------------------
# Numbers
# ------------------------------------------------------------------------------------------------


def shape_bias(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows of model and category (``all``: every image): shape bias with its interval, accuracy and counts.

    The bias is the share of shape decisions among decisions for either cue, NaN where there is none; images filled
    with a material have no texture category and count for accuracy alone.
    """
    rows = []
    for _, group in frame.groupby("model", sort=False):
        constants = group.iloc[0][[*SERIES]].to_dict() | {"kind": "shape_bias"}
        parts = [("all", group), *group.groupby("shape_group", sort=True)]
        for category, part in parts:
            decided = part[(part["decision"] != "other") & (part["texture_group"] != "")]
            shape = (decided["decision"] == "shape").to_numpy(dtype=float)
            bias = {"value": shape.mean() if len(shape) else np.nan}
            if category == "all" and len(shape) > 1:
                settings = study.figures.bootstrap
                interval = bootstrap_mean(
                    shape[:, None], level=settings.level, resamples=settings.resamples, seed=settings.seed
                )
                bias |= {"low": interval.low[0], "high": interval.high[0]}
            accuracy = (part["decision"] == "shape").mean()
            counts = {"decided": len(decided), "images": part["image"].nunique(), "accuracy": accuracy}
            rows.append(constants | {"category": category} | bias | counts)
    return pd.DataFrame(rows)


def noise_drops(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows of model, width and frequency: points lost against the clean image, with an interval over images.

    Raises:
        UserError: a table has no clean images, or not every image under every band.
    """
    rows = []
    for model, group in frame.groupby("model", sort=False):
        per_image = group.pivot_table(index="image", columns=["width", "frequency"], values="value", aggfunc="mean")
        if (0.0, 0.0) not in per_image or per_image.isna().any(axis=None):
            raise UserError(f"table of {model}: not every image was read clean and under every band; rebuild it")
        clean = per_image.pop((0.0, 0.0))
        drops = 100 * (clean.to_numpy()[:, None] - per_image.to_numpy())
        settings = study.figures.bootstrap
        interval = bootstrap_mean(drops, level=settings.level, resamples=settings.resamples, seed=settings.seed)
        constants = group.iloc[0][[*SERIES, "rms"]].to_dict()
        constants |= {"kind": "drop", "images": len(per_image), "clean": clean.mean()}
        for (width, frequency), value, low, high in zip(per_image.columns, *interval, strict=True):
            rows.append(constants | {"width": width, "frequency": frequency, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------
# Drawing
# ------------------------------------------------------------------------------------------------


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, or of another study.
    """
    cues, noise = frames["cue_conflict"], frames["noise"]
    bias, drops = shape_bias(cues, study), noise_drops(noise, study)
    styles = series_styles(study)
    published = published_curves(frames["reference"], _PUBLISHED)
    published = published[published["method"].str.contains("ViT")].rename(columns={"depth": "frequency"})
    published = published.assign(kind="reference", value=-published["value"])  # published as change of accuracy

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.9)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
        _draw_bias(left, bias, styles)
        _draw_drops(right, drops, published, styles, study)
        handles, labels = left.get_legend_handles_labels()
        more = [pair for pair in zip(*right.get_legend_handles_labels(), strict=True) if pair[1] not in labels]
        handles, labels = handles + [handle for handle, _ in more], labels + [label for _, label in more]
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        probe = cues.iloc[0]
        note = (
            f"Linear probe of {probe['labels']} labels, {probe['pooling']} token of block {probe['depth']}; "
            f"noise of rms {noise['rms'].iloc[0]:g}, not calibrated; {cues['image'].nunique()} cue-conflict images of "
            f"{cues['shape_group'].nunique()} categories (chance {1 / cues['shape_group'].nunique():.0%})."
        )
        style.add_footer(figure, style.describe(study, noise, note, study.pair()))
    drawn = pd.concat([bias, drops, published], ignore_index=True)
    first = ["kind", "model", "label", "category", "width", "frequency", "value", "low", "high", "accuracy"]
    return figure, drawn[first + [name for name in drawn if name not in first]]


def _draw_bias(axes: Axes, bias: pd.DataFrame, styles: dict[str, SeriesStyle]) -> None:
    categories = sorted(set(bias["category"]) - {"all"}, reverse=True)
    heights = {category: height for height, category in enumerate(categories)}
    for model, group in bias.groupby("model", sort=False):
        look, whole = styles[model], group[group["category"] == "all"].iloc[0]
        each = group[group["category"] != "all"]
        axes.plot(
            each["value"],
            each["category"].map(heights),
            look.marker,
            color=look.color,
            markerfacecolor="white" if look.hollow else look.color,
            markersize=4,
            zorder=look.zorder,
            label=f"{whole['label']} (accuracy {whole['accuracy']:.0%})",
        )
        if np.isfinite(whole["value"]):
            axes.axvline(whole["value"], color=look.color, linestyle=look.linestyle, linewidth=1.1, zorder=1)
            if "low" in whole and np.isfinite(whole["low"]):
                axes.axvspan(whole["low"], whole["high"], color=look.color, alpha=0.08, linewidth=0)
    axes.set_yticks(list(heights.values()), list(heights), fontsize=6)
    axes.set_ylim(-0.6, len(categories) - 0.4)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("shape decisions / (shape + texture)")
    axes.set_title("(a) shape bias", loc="left")


def _draw_drops(
    axes: Axes, drops: pd.DataFrame, published: pd.DataFrame, styles: dict[str, SeriesStyle], study: Study
) -> None:
    first, *others = study.analysis.robustness.noise.widths
    axes.plot(
        published["frequency"],
        published["value"],
        color="#c4c4a8",
        linewidth=1.8,
        zorder=1,
        label="supervised ViT, earlier paper (other amplitude)",
    )
    for model, group in drops.groupby("model", sort=False):
        look = styles[model]
        main = group[np.isclose(group["width"], first)].sort_values("frequency")
        axes.plot(main["frequency"], main["value"], **look.line())
        axes.fill_between(main["frequency"], main["low"], main["high"], color=look.color, alpha=0.2, linewidth=0)
        for width in others:
            rows = group[np.isclose(group["width"], width)].sort_values("frequency")
            axes.plot(rows["frequency"], rows["value"], color=look.color, linewidth=0.6, linestyle=look.linestyle)
    axes.axhline(0, color="black", linewidth=0.5, zorder=0)
    axes.set_xlabel(r"frequency of the noise ($\pi$)")
    axes.set_ylabel("accuracy lost (points)")
    axes.set_title(f"(b) noise in rings of width {first:g} $\\pi$", loc="left")


FIGURE = Figure(
    title="Figure 9: shape, texture and frequency noise",
    caption=(
        "(a) Share of shape decisions among shape and texture decisions on cue-conflict images, by category of the "
        "shape; vertical lines: all images together; beside the legend's names: accuracy, the share of images whose "
        "shape is named. (b) Accuracy lost, in points, when noise of one band of frequencies (a square ring of the "
        "spectrum, the same root mean square in every band, pixels not clipped) is added; bootstrap band over "
        "images, paired with the clean images; thin: other ring widths of the study. The classifier is a linear "
        "probe on the frozen encoder. The paper's classifier, bands and amplitude are unknown. The amplitude is the "
        "study's and was not calibrated on a supervised model. Grey: the untrained encoder of each architecture. "
        "Faint: a supervised ViT of the same first author's earlier paper, whose model, data and amplitude differ: "
        "only the place of its maximum compares."
    ),
    reads={
        "cue_conflict": Table("cue_conflict", "pair", CUE_COLUMNS),
        "noise": Table("noise", "pair", NOISE_COLUMNS),
        "reference": Reference(),
    },
    draw=draw,
    settings=(BOOTSTRAP, "analysis.robustness"),
)
