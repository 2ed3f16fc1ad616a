"""Figure 2: where two patches of one image look, one on the object and one off it.

Contrastive attention is claimed to give nearly the same object-shaped map for both queries, masked-image attention a
spot near each (claim C6). The paper's block, head and image are unknown: ours are chosen in the YAML.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cl_vs_mim.config import Study
from cl_vs_mim.core import pages
from cl_vs_mim.core.blocks import block_index
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import Drawing, Figure, Frames
from cl_vs_mim.figures.sources import Table

COLUMNS = ("image", "depth", "head", "query", "query_row", "query_col", "key_row", "key_col", "value", "grid")
_PIXELS = ("row", "col", "red", "green", "blue")
_PIXEL_COLUMNS = ("study", "data_hash", "image", *_PIXELS)
_LEAST_SCALE = 2.0  # times uniform: near-uniform maps would otherwise glow as if they picked something out
_MEAN = -1  # the head column's code for the mean over heads
_QUERIES = ("query on the object", "query off the object")
_COLOURMAP = "plasma"  # the paper's

# ------------------------------------------------------------------------------------------------
# Drawing
# ------------------------------------------------------------------------------------------------


def draw(frames: Frames, study: Study) -> Drawing:
    """Draw the figure, and tabulate what it shows.

    Raises:
        UserError: the maps are not of one image, or a map is missing.
    """
    frame, image = frames["maps"], frames["pixels"]
    _check_image(image, frame)
    head = study.figures.attention_maps.head
    first = frame["seed"] == frame.groupby("model")["seed"].transform("min")  # one seed of each encoder is shown
    frame = frame[first & frame["head"].isin([_MEAN, head])].copy()
    frame = _of_block(frame, study)
    frame["times_uniform"] = frame["value"] * frame["grid"] ** 2
    models = list(dict.fromkeys(frame["model"]))

    with pages.house_style():
        figure = pages.new_figure(style.DOUBLE, 1.05 * len(models) + 0.75)
        panels = figure.subplots(len(models), 5, squeeze=False)
        for row, model in zip(panels, models, strict=True):
            group = frame[frame["model"] == model]
            for query in (0, 1):
                if query not in set(group["query"]):
                    raise UserError(f"table of {model} has no map of query {query}; rebuild it")
            _draw_image(row[0], image, group)
            row[0].set_ylabel(_wrapped(f"{group['label'].iloc[0]}\nblock {group['depth'].iloc[0]}"))
            scale = max(group["times_uniform"].max(), _LEAST_SCALE)
            for column, (query, which) in enumerate(((0, _MEAN), (0, head), (1, _MEAN), (1, head)), start=1):
                drawn = _draw_map(row[column], group, query, which, scale)
            bar = figure.colorbar(drawn, ax=row[-1], fraction=0.07, pad=0.04)
            bar.ax.tick_params(labelsize=7, length=2)
            bar.outline.set_linewidth(0.4)
        panels[0, 0].set_title("image, queries")
        for column, text in enumerate(("mean of heads", f"head {head}") * 2, start=1):
            panels[0, column].set_title(f"{_QUERIES[(column - 1) // 2]}\n{text}", fontsize=7)
        note = "Colour: multiples of uniform attention, one scale a row."
        style.add_footer(figure, style.describe(study, frame, note, study.pair()))
    drawn = pd.concat([frame.assign(kind="map"), image[[*_PIXELS, "image"]].assign(kind="pixel")], ignore_index=True)
    whole = [*_PIXELS, "depth", "head", "query", "query_row", "query_col", "key_row", "key_col", "grid", "seed"]
    return figure, drawn.astype(dict.fromkeys(whole, "Int64"))


def _check_image(image: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Raises ``UserError`` where the pixels are not all there, or not those that the maps belong to."""
    if image.empty or len(image) != (image["row"].max() + 1) * (image["col"].max() + 1):
        raise UserError(f"the image table has {len(image)} pixels, which is no whole image; rebuild it")
    for column, what in (("image", "images"), ("study", "studies"), ("data_hash", "data sets")):
        shown = {*frame[column], *image[column]}
        if len(shown) > 1:
            raise UserError(f"maps of different {what} cannot be drawn together ({', '.join(sorted(shown))})")


def _of_block(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The maps of the block that the study names, counted in each encoder's own blocks."""
    block = study.figures.attention_maps.block
    frames = []
    for model, group in frame.groupby("model", sort=False):
        wanted = 1 + block_index(block, study.architectures[group["architecture"].iloc[0]].depth)
        chosen = group[group["depth"] == wanted]
        if chosen.empty:
            found = ", ".join(map(str, sorted(set(group["depth"]))))
            raise UserError(f"table of {model}: maps of block {found} but not of {wanted}; rebuild it")
        frames.append(chosen)
    return pd.concat(frames).copy()


def _draw_image(axes: Axes, image: pd.DataFrame, group: pd.DataFrame) -> None:
    height, width = image["row"].max() + 1, image["col"].max() + 1
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[image["row"], image["col"]] = image[["red", "green", "blue"]]
    grid = int(group["grid"].iloc[0])
    axes.imshow(pixels, extent=(-0.5, grid - 0.5, grid - 0.5, -0.5), interpolation="nearest")
    for query, marker in ((0, "o"), (1, "D")):
        _mark(axes, group[group["query"] == query].iloc[0], marker)
    style.bare(axes)


def _draw_map(axes: Axes, group: pd.DataFrame, query: int, head: int, scale: float):
    rows = group[(group["query"] == query) & (group["head"] == head)]
    grid = int(group["grid"].iloc[0])
    if len(rows) != grid**2:
        model = group["model"].iloc[0]
        raise UserError(f"table of {model}: {len(rows)} of {grid**2} values of query {query}, head {head}; rebuild it")
    values = np.empty((grid, grid))
    values[rows["key_row"], rows["key_col"]] = rows["times_uniform"]
    drawn = axes.imshow(values, cmap=_COLOURMAP, vmin=0, vmax=scale, interpolation="nearest")
    _mark(axes, rows.iloc[0], "oD"[query])
    style.bare(axes)
    return drawn


def _mark(axes: Axes, row: pd.Series, marker: str) -> None:
    """The query patch: white on black, so that it stands out on every colour."""
    for size, color, width in ((5.5, "black", 2.2), (5.5, "white", 1.1)):
        axes.plot(
            row["query_col"], row["query_row"], marker, markersize=size, mfc="none", mec=color, markeredgewidth=width
        )


def _wrapped(label: str) -> str:
    return label.replace("untrained ", "untrained\n")


FIGURE = Figure(
    title="Figure 2: attention maps of two queries",
    caption=(
        "Where a patch on the object (circle) and a patch off it (diamond) look: the mean over heads and one head, "
        "in multiples of uniform attention, each encoder on a scale of its own that reaches at least twice uniform. "
        "CLS dropped, rows normalised again. The paper states neither block, head nor image; these are choices of "
        "the study. Below: the untrained encoder of each architecture."
    ),
    reads={
        "maps": Table("attention_maps", "pair", COLUMNS),
        "pixels": Table("attention_image", "pair_first", _PIXEL_COLUMNS, measured=False),
    },
    draw=draw,
    settings=("figures.attention_maps",),
)
