"""Figure 12: contrastive learning and masked image modelling at once, for every λ of the study."""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.config.tasks import project_score
from cl_vs_mim.core import pages
from cl_vs_mim.figures import fig08, style
from cl_vs_mim.figures.curves import draw_curves, drawn_columns
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import hybrid_weights, series_styles
from cl_vs_mim.figures.overview import BLOCK_COLUMNS
from cl_vs_mim.figures.reference import with_lambda
from cl_vs_mim.figures.scatter import draw_points, draw_published, name_points
from cl_vs_mim.figures.scores import CLASSIFICATION, encoder_scores, side_by_side
from cl_vs_mim.figures.sources import Reference, Table
from cl_vs_mim.figures.states import draw_state_curves, state_curves
from cl_vs_mim.figures.tables import check_complete, depth_curves

SCORES = ("linear probe", "fine-tuning")  # on the axes of (a)


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete or of another study.
    """
    shares = hybrid_weights(study)
    bootstrap = study.figures.bootstrap
    probed, tuned = (encoder_scores(score, frames[score.table], bootstrap) for score in map(project_score, SCORES))
    points = side_by_side(probed, tuned)
    points = points[points["model"].isin(shares)]
    points = points.assign(**{"lambda": points["model"].map(shares)}).sort_values("lambda")
    points["label"] = [f"λ = {weight:g}" for weight in points["lambda"]]
    attention = frames["attention"]
    nmi = attention[attention["metric"] == "nmi"]
    check_complete(nmi, study)
    nmi = depth_curves(nmi, "nmi", bootstrap).query("kind == 'mean'")
    rows, last = fig08.highest(frames["fourier"])
    check_complete(rows, study, "states")
    states = state_curves(rows, fig08.METRIC, study)
    styles = series_styles(study)
    published = _published(frames["reference"])
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 5.0)
        (ours, theirs), (information, spectrum) = figure.subplots(2, 2)
        ours.plot(points["x_value"], points["y_value"], color="#999999", linewidth=0.8, zorder=1)
        draw_points(ours, points, styles)
        ours.set(xlabel="linear probing (%)", ylabel=f"fine-tuning, top-1 of {points['classes'].iloc[0]} (%)")
        theirs.plot(published["x"], published["y"], color="#cccccc", linewidth=0.8, zorder=1)
        names = draw_published(theirs, published, {})
        theirs.set(xlabel="published: linear probing (%)", ylabel="published: fine-tuning (%)")
        draw_curves(information, nmi, styles)
        information.set_ylabel("normalised mutual information")
        draw_state_curves(spectrum, states, styles)
        spectrum.set_ylabel(rf"$\Delta$ log amplitude at {last:.2f} $\pi$")
        for axes, letter in zip((ours, theirs, information, spectrum), "abcd", strict=True):
            axes.set_title(f"({letter})", loc="left")
        named = {label: handle for handle, label in zip(*information.get_legend_handles_labels(), strict=True)}
        texts = [f"λ = {shares[name]:g}" for name in shares if study.models[name].label in named]
        handles = [named[study.models[name].label] for name in shares if study.models[name].label in named]
        others = [label for label in named if label not in {study.models[name].label for name in shares}]
        figure.legend(
            [*handles, *(named[label] for label in others)],
            [*texts, *others],
            loc="outside upper center",
            ncols=4,
        )
        kinds = ", ".join(sorted(points["y_interval"].unique()))
        note = f"Bars: {bootstrap.level:.0%} over {kinds}; bands: over images."
        style.add_footer(figure, style.describe(study, attention, note, [*shares]))
        figure.draw_without_rendering()
        name_points(theirs, names)
    drawn = [points.assign(kind="score"), published.assign(kind="published"), nmi, states]
    return figure, drawn_columns(pd.concat(drawn, ignore_index=True))


def _published(reference: pd.DataFrame) -> pd.DataFrame:
    """The points of the paper's Figure 12, by λ."""
    rows = with_lambda(reference[reference["figure"] == "fig12"])
    rows = rows[rows["lambda"].notna()]
    method = [f"λ = {weight:.1f}" for weight in rows["lambda"]]
    rows = rows.assign(method=method, x=pd.to_numeric(rows["x"]), y=pd.to_numeric(rows["y"]))
    return rows[["method", "lambda", "x", "y"]]


FIGURE = Figure(
    title="Figure 12: the hybrid, (1 - λ) MIM + λ CL",
    caption=(
        "(a) Fine-tuning against linear probing (augmented images) of encoders trained with L = (1 - λ) L_MIM + λ "
        "L_CL, one recipe for all λ, points joined in the order of λ; bars: intervals of the study's level over "
        "seeds where there are several, else over images. (b) The published points, ViT-B/16 on ImageNet-1K; 0.8 "
        "was not published. (c) Normalised mutual information of the self-attention by block. (d) Relative log "
        "amplitude at the highest frequency by depth. The paper does not say which λ its (c) and (d) show; here are "
        "all. Grey: the untrained encoder. Bands: bootstrap over images."
    ),
    reads={
        "finetuning": Table("finetuning", "hybrids", CLASSIFICATION),
        "augmented_probe": Table("augmented_probe", "hybrids", CLASSIFICATION),
        "attention": Table("attention", "hybrids", BLOCK_COLUMNS),
        "fourier": Table("fourier", "hybrids", fig08.COLUMNS),
        "reference": Reference(),
    },
    draw=draw,
    settings=(BOOTSTRAP,),
    scores=SCORES,
)
