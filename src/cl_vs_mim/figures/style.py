"""What all figures share: the paper's colours, sizes for a column of text, the footer, and how they are written."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cl_vs_mim.artifacts import atomic_path, write_table
from cl_vs_mim.config import Study

SINGLE, DOUBLE = 3.25, 6.75  # widths of one and of two columns, inches
_DPI = 300
_FOOTER_CHARACTERS = 19  # per inch at the footer's size

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # embedded as TrueType, so that text stays text
    "savefig.dpi": _DPI,
}

# ------------------------------------------------------------------------------------------------
# Series
# ------------------------------------------------------------------------------------------------

# The paper's scheme: CL red squares, MIM blue triangles. The two hues differ in lightness as well, and markers and
# line styles carry the distinction without colour.
_COLOURS = {"cl": ("#c8321e", "#e8836f"), "mim": ("#0b5fa5", "#6fa8d6"), "control": ("#6f6f6f", "#a3a3a3")}
_MARKERS = {"cl": "s", "mim": "^", "control": "o"}
_LINES = {"cl": ("-", (0, (6, 2))), "mim": ("-", (0, (6, 2))), "control": ((0, (4, 2)), (0, (1, 1.5)))}


@dataclass(frozen=True)
class SeriesStyle:
    """How one series looks."""

    color: str
    marker: str
    linestyle: object
    zorder: float

    def line(self) -> dict[str, object]:
        """Keyword arguments for ``Axes.plot``."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle, "zorder": self.zorder}


def series_styles(paradigms: Mapping[str, str]) -> dict[str, SeriesStyle]:
    """A style for each series (name -> "cl" | "mim" | "control"); several of a kind differ in shade and dashes."""
    styles, seen = {}, dict.fromkeys(_COLOURS, 0)
    for name, paradigm in paradigms.items():
        turn = seen[paradigm] % 2
        seen[paradigm] += 1
        order = 2 if paradigm == "control" else 3
        styles[name] = SeriesStyle(
            _COLOURS[paradigm][turn], _MARKERS[paradigm], _LINES[paradigm][turn], order + seen[paradigm] / 10
        )
    return styles


# ------------------------------------------------------------------------------------------------
# Pages
# ------------------------------------------------------------------------------------------------


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's settings inside the block; outside it nothing changes."""
    with mpl.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that belongs to no window and no global list."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_footer(figure: Figure, text: str) -> None:
    """Put ``text`` under the axes in small grey type, wrapped to the figure's width."""
    characters = int(figure.get_figwidth() * _FOOTER_CHARACTERS)
    figure.supxlabel("\n".join(textwrap.wrap(text, characters)), fontsize=6.5, color="#555555", x=0.01, ha="left")


def describe(study: Study, images: int, seeds: list[int], note: str = "") -> str:
    """The footer's text: which study, how large, how many images and seeds, and whether it is a reduced one."""
    reduced = "Reduced study, direction only at best" if study.reduced else "Study"
    seed_text = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds, averaged within an image"
    models = ", ".join(model.label for model in study.models.values())
    parts = [
        f"{reduced}: {study.study} ({study.title}).",
        f"{models}; {images} {'image' if images == 1 else 'images'}; {seed_text}.",
    ]
    return " ".join([*parts, note]).strip()


def save(figure: Figure, drawn: pd.DataFrame, output: Path, *, title: str, caption: str) -> None:
    """Write ``<output>.pdf``, ``.png`` and ``.csv`` (exactly what is drawn), each atomically.

    Equal tables give equal bytes: no date goes into the files.
    """
    output = Path(output)
    with house_style():
        with atomic_path(output.with_suffix(".pdf")) as temporary:
            figure.savefig(temporary, metadata={"Title": title, "Subject": caption, "CreationDate": None})
        with atomic_path(output.with_suffix(".png")) as temporary:
            figure.savefig(temporary, dpi=_DPI, metadata={"Title": title, "Software": None})
    write_table(output.with_suffix(".csv"), drawn)
