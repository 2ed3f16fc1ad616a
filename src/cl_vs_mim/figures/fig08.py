"""Figure 8: which frequencies the tokens hold.

Masked-image encoders are claimed to use higher frequencies than contrastive ones at every depth, and to drop in their
last blocks, which act as a decoder (claims C19 and C20).
"""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import draw_reference, drawn_columns, shared_legend
from cl_vs_mim.figures.figure import BOOTSTRAP, Drawing, Figure, Frames
from cl_vs_mim.figures.looks import series_styles
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.sources import Reference, Table
from cl_vs_mim.figures.states import add_depth_bar, draw_by_depth, draw_state_curves, state_curves
from cl_vs_mim.figures.tables import check_complete

COLUMNS = ("image", "depth", "frequency", "value", "grid")
METRIC = "relative_log_amplitude"
_PUBLISHED = "fig8"


def highest(frame: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """The rows at the highest frequency, and that frequency in units of pi.

    Raises:
        UserError: the encoders have different grids, or the frequencies are not those of theirs.
    """
    if len(set(frame["grid"])) > 1:
        grids = ", ".join(map(str, sorted(frame["grid"].unique())))
        raise UserError(f"encoders of different grids ({grids}) have different frequencies; draw them apart")
    last = frame["frequency"].max()
    rows = frame[frame["frequency"] == last]
    if rows["model"].nunique() != frame["model"].nunique():
        raise UserError(f"not every table has frequency {last:.3g} pi; rebuild them")
    return rows, float(last)


def published_rows(reference: pd.DataFrame, figure: str, deepest: float, methods: list[str]) -> pd.DataFrame:
    """Published curves of these methods over our depths, first on first and last on last."""
    rows = published_curves(reference, figure)
    rows = rows[rows["method"].isin(methods)].rename(columns={"depth": "published_depth"})
    last = rows.groupby("method")["published_depth"].transform("max")
    return rows.assign(kind="reference", metric=METRIC, depth=rows["published_depth"] / last * deepest)


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the tables are incomplete, of another study, or of different grids.
    """
    frame = frames["fourier"]
    rows, last = highest(frame)
    check_complete(rows, study, "states")
    curves = state_curves(rows, METRIC, study)
    lines = frame[frame["depth"] % 1 == 0].groupby(["model", "depth", "frequency"], sort=False)["value"].mean()
    lines = lines.reset_index().assign(kind="line", metric=METRIC)
    styles = series_styles(study)
    deepest = curves["depth"].max()
    published = published_rows(frames["reference"], _PUBLISHED, deepest, ["MoCo v3", "SimMIM"])

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 3.2)
        trained = [name for name in study.figures.pair if name in styles]
        *spectra, right = figure.subplots(1, len(trained) + 1, width_ratios=[*[1] * len(trained), 1.6])
        for axes, model in zip(spectra, trained, strict=True):
            group = lines[lines["model"] == model]
            draw_by_depth(axes, group, "frequency", styles[model].color)
            axes.set_title(study.models[model].label)
            ticks = sorted(group["frequency"].unique())
            axes.set_xticks(ticks, [f"{tick:.2f}" for tick in ticks] if len(ticks) < 5 else None)
            axes.set_xlabel(r"frequency ($\pi$)")
            add_depth_bar(axes, styles[model].color, group["depth"].max())
        limits = lines[lines["model"].isin(trained)]["value"].agg(["min", "max"])
        for axes in spectra:
            margin = 0.05 * (limits["max"] - limits["min"])
            axes.set_ylim(limits["min"] - margin, limits["max"] + margin)
        if spectra:
            spectra[0].set_ylabel(r"$\Delta$ log amplitude")
        draw_reference(right, published, "published (ViT-B/16)", named=True)
        draw_state_curves(right, curves, styles)
        right.set_ylabel(rf"$\Delta$ log amplitude at {last:.2f} $\pi$")
        shared_legend(figure, right)
        note = f"Band: {study.figures.bootstrap.level:.0%} bootstrap over images."
        style.add_footer(figure, style.describe(study, frame, note, study.pair()))
    return figure, drawn_columns(pd.concat([curves, lines, published], ignore_index=True))


FIGURE = Figure(
    title="Figure 8: Fourier analysis of the tokens",
    caption=(
        "Log amplitude of the tokens' two-dimensional Fourier transform along the half diagonal, relative to "
        "frequency 0, mean over channels and images. Left: against frequency, one line per block output, paler is "
        "deeper. Right: at the highest of these frequencies against depth; squares and triangles at block outputs, "
        "small dots after the self-attention half of each block; bootstrap band over images. On an even grid the "
        "half diagonal ends before Nyquist. Grey: the untrained encoder of each architecture. Faint: the published "
        "curves (grid of 14, read at 6/7 of pi) at equal relative depth; heights at different frequencies do not "
        "compare."
    ),
    reads={"fourier": Table("fourier", "pair", COLUMNS), "reference": Reference()},
    draw=draw,
    settings=(BOOTSTRAP,),
)
