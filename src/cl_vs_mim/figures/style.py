"""What all pages of figures share: sizes for a column of text, the footer, and how they are written."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_vs_mim.config import Study
from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.core.pages import DPI, house_style
from cl_vs_mim.core.tables import write_table
from cl_vs_mim.figures.tables import labels

SINGLE, DOUBLE = 3.25, 6.75  # widths of one and of two columns, inches
_FOOTER_SIZE = 7  # points: the smallest type of a figure
_FOOTER_CHARACTERS = 18  # per inch at that size


# ------------------------------------------------------------------------------------------------
# Pages
# ------------------------------------------------------------------------------------------------


def add_footer(figure: Figure, text: str) -> None:
    """Put ``text`` under the axes in small grey type, wrapped to the figure's width."""
    characters = int(figure.get_figwidth() * _FOOTER_CHARACTERS)
    figure.supxlabel(
        "\n".join(textwrap.wrap(text, characters)), fontsize=_FOOTER_SIZE, color="#555555", x=0.01, ha="left"
    )


def bare(axes: Axes, *, frame: bool = False) -> None:
    """Take ticks away, and the frame unless it is wanted: for panels that show a picture or have no scale."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(frame)


def describe(study: Study, frame: pd.DataFrame, note: str = "", expected: Sequence[str] | None = None) -> str:
    """The footer's text: which study, whether reduced, and the models, images and seeds that ``frame`` really holds.

    ``expected`` names the models and controls of which the absent ones are listed; by default all but hybrids.
    """
    reduced = "Reduced study, direction only at best" if study.reduced else "Study"
    controls = study.controls()
    named = {name: label for name, label in labels(study).items() if name in controls or name in study.analysed()}
    default = [*study.methods(), *controls]
    drawn = set(frame["model"])
    models = ", ".join(label for name, label in named.items() if name in drawn and name not in controls)
    images = frame["image"].nunique()
    parts = [
        f"{reduced}: {study.study} ({study.title}).",
        f"{models or 'No trained model'}; {images} {'image' if images == 1 else 'images'}; {_seeds(frame)}.",
        note,
    ]
    absent = [label for name, label in named.items() if name not in drawn and name in (expected or default)]
    parts += [f"Missing: {', '.join(absent)}."] if absent else []
    return " ".join(filter(None, parts))


def _seeds(frame: pd.DataFrame) -> str:
    """``seed 0``; controls apart where theirs differ, and each encoder by name where not even that tells."""
    kinds = {"": frame["paradigm"] != "control", "controls ": frame["paradigm"] == "control"}
    seeds = {label: tuple(sorted(group.unique())) for label, group in frame.groupby("label", sort=False)["seed"]}
    by_kind = {kind: {seeds[label] for label in frame.loc[rows, "label"]} for kind, rows in kinds.items()}
    if len(set(seeds.values())) == 1:
        text = _numbers(*set(seeds.values()))
    elif all(len(found) == 1 for found in by_kind.values()):
        text = ", ".join(kind + _numbers(*found) for kind, found in by_kind.items())
    else:
        text = ", ".join(f"{label} {_numbers(numbers)}" for label, numbers in seeds.items())
    averaged = any(len(numbers) > 1 for numbers in seeds.values())
    return text + (" (averaged within an image; the band leaves their spread out)" if averaged else "")


def _numbers(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def save(figure: Figure, drawn: pd.DataFrame, output: Path, *, title: str, caption: str) -> None:
    """Write ``<output>.pdf``, ``.png`` and ``.csv`` (exactly what is drawn), each atomically.

    Equal tables give equal bytes: no date goes into the files.
    """
    output = Path(output)
    with house_style():
        pdf, png = io.BytesIO(), io.BytesIO()  # not files: Matplotlib fails on a full disk in ways of its own
        figure.savefig(pdf, format="pdf", metadata={"Title": title, "Subject": caption, "CreationDate": None})
        figure.savefig(png, format="png", dpi=DPI, metadata={"Title": title, "Software": None})
    for drawing in (pdf, png):
        with atomic_path(output.with_suffix(".pdf" if drawing is pdf else ".png")) as temporary:
            temporary.write_bytes(drawing.getvalue())
    write_table(output.with_suffix(".csv"), drawn)
