"""What figures of linear probes share: complete tables, curves of top-1 accuracy in per cent, a panel of them."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from cl_vs_mim.config import Study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures.curves import draw_curves
from cl_vs_mim.figures.looks import SeriesStyle
from cl_vs_mim.figures.tables import depth_curves

COLUMNS = (
    *("image", "depth", "metric", "value", "labels", "classes", "split", "pooling", "learning_rate"),
    *("protocol", "chance"),
)
METRIC = "top1"
POOLINGS = {"mean": "mean of patch tokens", "cls": "CLS token"}  # in the order of the panels; the default first
_PANEL = ["labels", "split", "pooling"]


def of_labels(frame: pd.DataFrame, labels: str) -> pd.DataFrame:
    """The rows of one kind of label.

    Raises:
        UserError: an encoder has none, or the encoders' probes differ in protocol or number of classes.
    """
    rows = frame[frame["labels"] == labels].reset_index(drop=True)
    if lacking := [name for name in frame["model"].unique() if name not in set(rows["model"])]:
        raise UserError(f"tables of {', '.join(lacking)} have no probe of {labels!r}; add it to analysis.probe.labels")
    for column in ("classes", "protocol"):
        if len(values := sorted(map(str, rows[column].unique()))) > 1:
            raise UserError(f"probes of different {column} ({', '.join(values)}) cannot share an axis; rebuild them")
    return rows


def check_probes(frame: pd.DataFrame, study: Study) -> None:
    """Every encoder probed at depth 0 … L, with both poolings, on the same images of each split.

    Raises:
        UserError: naming the table and what it lacks.
    """
    first = frame["model"].iloc[0]
    for split in frame["split"].unique():
        images = set(frame.loc[(frame["model"] == first) & (frame["split"] == split), "image"])
        for model in frame["model"].unique():
            rows = frame[(frame["model"] == model) & (frame["split"] == split)]
            if differing := images ^ set(rows["image"]):
                raise UserError(
                    f"tables of {first} and {model} differ in {len(differing)} images of {split} "
                    f"({min(differing)}, …); rebuild them"
                )
            wanted = set(range(study.architectures[rows["architecture"].iloc[0]].depth + 1))
            for pooling in POOLINGS:
                if wrong := sorted(wanted ^ set(rows.loc[rows["pooling"] == pooling, "depth"])):
                    raise UserError(
                        f"table of {model}: probes of {split}, pooling {pooling}, lack depths or have unknown ones "
                        f"({', '.join(map(str, wrong))}; the encoder has 0 … {max(wanted)}); rebuild it"
                    )


def accuracy_curves(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Top-1 accuracy in per cent with its bootstrap band, a row per kind of label, split, pooling, model and depth.

    Raises:
        UserError: as :func:`cl_vs_mim.figures.tables.depth_curves`.
    """
    parts = []
    for panel, group in frame.groupby(_PANEL, sort=False):
        curves = depth_curves(group.assign(head=-1), METRIC, study.figures.bootstrap)
        curves = curves[curves["kind"] == "mean"].drop(columns=["head", "relative_depth"], errors="ignore")
        rates = group.groupby(["model", "depth"], sort=False)["learning_rate"].mean().rename("learning_rate")
        curves = curves.join(rates, on=["model", "depth"])  # of several seeds the mean
        parts.append(curves.assign(**dict(zip(_PANEL, panel, strict=True))))
    result = pd.concat(parts, ignore_index=True)
    return result.assign(**{name: 100 * result[name] for name in ("value", "low", "high")})


def chance_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The dotted lines, per cent: naming every image after the commonest training label, for each split."""
    rows = frame[["labels", "split", "chance"]].drop_duplicates().rename(columns={"chance": "value"})
    if rows.duplicated(["labels", "split"]).any():
        raise UserError("tables differ in their chance level, so in the images they were probed on; rebuild them")
    return rows.assign(kind="chance", metric=METRIC, label="always the commonest label", value=100 * rows["value"])


def draw_panel(axes: Axes, curves: pd.DataFrame, chance: pd.DataFrame, styles: dict[str, SeriesStyle]) -> None:
    """Curves of one split and pooling against depth 0 … L, over the line of chance."""
    draw_curves(axes, curves, styles)
    axes.axhline(
        chance["value"].iloc[0], color="black", linestyle=":", linewidth=0.9, zorder=1, label=chance["label"].iloc[0]
    )
    axes.set_xlim(-0.3, curves["depth"].max() + 0.3)
    axes.set_xlabel("depth (block; 0 = embedding)")


def protocol_note(frame: pd.DataFrame, study: Study) -> str:
    """What band and protocol are; ``cached`` has no augmentation and so lies below published protocols that augment."""
    level = f"Band: {study.figures.bootstrap.level:.0%} bootstrap over images."
    return f"Probes on {frame['protocol'].iloc[0]} features (no augmentation). {level}"
