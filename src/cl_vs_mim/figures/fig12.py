"""Figure 12: contrastive learning and masked image modelling at once, for every λ of the study."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.figures import fig08, style
from cl_vs_mim.figures.cli import REFERENCE, figure_parser
from cl_vs_mim.figures.curves import draw_curves, drawn_columns
from cl_vs_mim.figures.overview import BLOCK_COLUMNS
from cl_vs_mim.figures.scatter import draw_points, draw_published, name_points
from cl_vs_mim.figures.scores import classification_scores, side_by_side
from cl_vs_mim.figures.states import draw_state_curves, state_curves
from cl_vs_mim.figures.style import SeriesStyle
from cl_vs_mim.figures.tables import check_complete, depth_curves, of_study, paradigms, read_tables

TITLE = "Figure 12: the hybrid, (1 - λ) MIM + λ CL"
CAPTION = (
    "(a) Fine-tuning against linear probing (protocol augmented_probe) of encoders trained with L = (1 - λ) L_MIM + λ "
    "L_CL, one recipe for all λ, points joined in the order of λ; bars: 95 % over seeds where there are several, else "
    "over images. (b) The published points, ViT-B/16 on ImageNet-1K; 0.8 was not published. (c) Normalised mutual "
    "information of the self-attention by block. (d) Relative log amplitude at the highest frequency by depth. The "
    "paper does not say which λ its (c) and (d) show; here are all. Grey: the untrained encoder. Bands: bootstrap "
    "over images."
)
_METHOD = "CL+MIM hybrid lambda="


def weights(study: Study) -> dict[str, float]:
    """The study's hybrids and their λ, in its order.

    Raises:
        UserError: it has none.
    """
    found = {n: m.objective.weight for n, m in study.models.items() if m.objective.method == "hybrid"}
    if not found:
        raise UserError(f"study {study.study!r} has no model of method hybrid; Figure 12 compares them")
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def draw(
    points: pd.DataFrame, attention: pd.DataFrame, fourier: pd.DataFrame, reference: Path, study: Study
) -> tuple[Figure, pd.DataFrame]:
    """The figure and what is drawn.

    Args:
        points: hybrids with both scores, as of :func:`cl_vs_mim.figures.scores.side_by_side`.
        attention: rows of the attention tables of the hybrids and their control.
        fourier: rows of the Fourier tables of the same.
        reference: the table of published values.
        study: whose figure it is.

    Raises:
        UserError: the tables are incomplete or of another study.
    """
    shares = weights(study)
    points = points[points["model"].isin(shares)]
    points = points.assign(weight=points["model"].map(shares)).sort_values("weight")
    points["label"] = [f"λ = {weight:g}" for weight in points["weight"]]
    nmi = of_study(attention[attention["metric"] == "nmi"], study)
    check_complete(nmi, study)
    nmi = depth_curves(nmi, "nmi", study.figures.bootstrap).query("kind == 'mean'")
    rows, last = fig08.highest(of_study(fourier, study))
    check_complete(rows, study, "states")
    states = state_curves(rows, fig08.METRIC, study)
    styles = _styles(shares, paradigms(nmi))
    published = _published(read_table(reference))
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
        note = f"Bars: 95 % over {kinds}; bands: over images."
        style.add_footer(figure, style.describe(study, attention, note, [*shares]))
        figure.draw_without_rendering()
        name_points(theirs, names)
    drawn = [points.assign(kind="score"), published.assign(kind="published"), nmi, states]
    return figure, drawn_columns(pd.concat(drawn, ignore_index=True))


def _styles(shares: dict[str, float], kinds: dict[str, str]) -> dict[str, SeriesStyle]:
    """From blue (masked only) to red (contrastive only) through purple, so that λ can be read off the colour."""
    ends = [style.series_styles({"_": kind})["_"] for kind in ("mim", "cl")]
    inner = [name for name, weight in shares.items() if 0 < weight < 1]
    styles = style.series_styles({name: kinds.get(name, "hybrid") for name in [*inner, *kinds]})
    styles |= {name: ends[int(weight)] for name, weight in shares.items() if weight in (0, 1)}
    return styles


def _published(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[(table["figure"] == "fig12") & table["method"].str.startswith(_METHOD)]
    method = "λ = " + rows["method"].str.removeprefix(_METHOD)
    return rows.assign(method=method, x=pd.to_numeric(rows["x"]), y=pd.to_numeric(rows["y"]))[["method", "x", "y"]]


def main(arguments: argparse.Namespace) -> None:
    study = load_study(arguments.config)
    bootstrap = study.figures.bootstrap
    probed = classification_scores(arguments.probe_tables, study, bootstrap)
    points = side_by_side(probed, classification_scores(arguments.tables, study, bootstrap))
    attention = read_tables(arguments.attention_tables, BLOCK_COLUMNS)
    fourier = read_tables(arguments.fourier_tables, fig08.COLUMNS)
    figure, drawn = draw(points, attention, fourier, arguments.reference, study)
    style.save(figure, drawn, arguments.output, title=TITLE, caption=CAPTION)


if __name__ == "__main__":
    kinds = {"probe_tables": "linear probes", "attention_tables": "attention", "fourier_tables": "Fourier analysis"}
    run_cli(main, figure_parser(TITLE, **{name: f"tables of {text}" for name, text in kinds.items()}, **REFERENCE))
