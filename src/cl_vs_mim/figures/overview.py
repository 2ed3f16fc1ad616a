"""Four quantities against relative depth for any encoders: what several appendix figures show."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.curves import drawn_columns
from cl_vs_mim.figures.fig08 import COLUMNS as FOURIER_COLUMNS
from cl_vs_mim.figures.figure import Drawing, Frames
from cl_vs_mim.figures.looks import SeriesStyle, series_styles
from cl_vs_mim.figures.sources import Table
from cl_vs_mim.figures.tables import depth_curves
from cl_vs_mim.metrics.yardstick import uniform_attention_distance

BLOCK_COLUMNS = ("image", "depth", "head", "metric", "value", "grid", "patch_size")
_PANELS = {
    "share_of_uniform": "attention distance\n(share of uniform)",
    "nmi": "normalised mutual\ninformation",
    "token_similarity": "cosine between positions",
    "relative_log_amplitude": r"$\Delta$ log amplitude at" + "\nthe highest frequency",
}


def overview_reads(of: str) -> dict[str, Table]:
    """What an overview of a group of encoders reads."""
    return {
        "attention": Table("attention", of, BLOCK_COLUMNS),
        "diversity": Table("diversity", of, BLOCK_COLUMNS),
        "fourier": Table("fourier", of, FOURIER_COLUMNS),
    }


def overview(frames: Frames, study: Study) -> pd.DataFrame:
    """One tidy frame of the four quantities, columns of the tables and ``first``, the depth at which each begins."""
    attention_rows, diversity_rows, spectrum = frames["attention"], frames["diversity"], frames["fourier"]
    distance = attention_rows[attention_rows["metric"] == "attention_distance"].copy()
    shapes = distance[["grid", "patch_size"]].drop_duplicates().itertuples(index=False, name=None)
    uniform = {shape: uniform_attention_distance(*shape) for shape in shapes}
    distance["value"] /= [uniform[shape] for shape in zip(distance["grid"], distance["patch_size"], strict=True)]
    nmi = attention_rows[attention_rows["metric"] == "nmi"]
    tokens = diversity_rows[diversity_rows["metric"] == f"token_similarity_{study.figures.diversity.tokens}"]
    spectrum = spectrum[spectrum["frequency"] == spectrum.groupby("model")["frequency"].transform("max")]
    return pd.concat(
        [
            distance.assign(metric="share_of_uniform", first=1),
            nmi.assign(first=1),
            tokens.assign(metric="token_similarity", first=1),
            spectrum.assign(metric="relative_log_amplitude", head=-1, first=0),
        ],
        ignore_index=True,
    )


def draw_overview(
    frame: pd.DataFrame, study: Study, note: str, styles: Mapping[str, SeriesStyle] | None = None
) -> Drawing:
    """Four panels, a curve for each model of ``frame``; ``note`` goes into the footer."""
    if frame.empty:
        raise UserError("no encoder is left to draw")
    styles = styles or series_styles(study)
    curves = [
        depth_curves(rows, metric, study.figures.bootstrap, first=rows["first"].iloc[0]).query("kind == 'mean'")
        for metric, rows in frame.groupby("metric", sort=False)
    ]
    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 4.6)
        panels = figure.subplots(2, 2)
        for axes, rows in zip(panels.flat, curves, strict=True):
            for model, group in rows.groupby("model", sort=False):
                look = styles[model]
                axes.plot(group["relative_depth"], group["value"], label=group["label"].iloc[0], **look.line())
                axes.fill_between(
                    group["relative_depth"], group["low"], group["high"], color=look.color, alpha=0.2, linewidth=0
                )
            axes.set_ylabel(_PANELS[rows["metric"].iloc[0]])
            axes.set_xlabel("relative depth")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
        note = f"Band: {study.figures.bootstrap.level:.0%} bootstrap over images. {note}"
        style.add_footer(figure, style.describe(study, frame, note, list(dict.fromkeys(frame["model"]))))
    return figure, drawn_columns(pd.concat(curves, ignore_index=True))
