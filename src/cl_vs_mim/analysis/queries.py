"""Which patches Figure 2 asks where they look: one on the object and one far off it, or two given ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.pictures import upright_size
from cl_vs_mim.core.tables import read_text_table
from cl_vs_mim.core.untrusted import parsing

Patch = tuple[int, int]  # row, column on the grid

_COLUMNS = ("x", "y", "width", "height", "interior_x", "interior_y")  # of images.csv, px of the stored image


def choose_queries(
    queries: Literal["object_background"] | Sequence[Patch],
    *,
    data: Path,
    image: str,
    size: int,
    grid: int,
    crop_fraction: float,
) -> list[Patch]:
    """The two query patches of an image.

    Args:
        queries: ``figures.attention_maps.queries`` of the study.
        data: the data set's folder, with ``images.csv``.
        image: path relative to ``data``.
        size: side of the encoder's input, px.
        grid: patches along that side.
        crop_fraction: the centre crop that it was decoded with.

    Raises:
        UserError: the image has no row in ``images.csv``, its object lies outside the crop, or a given patch lies
            outside the grid.
    """
    if queries != "object_background":
        for row, column in queries:
            if max(row, column) >= grid:
                raise UserError(
                    f"figures.attention_maps.queries: patch [{row}, {column}] is not on the {grid}x{grid} grid"
                )
        return [(row, column) for row, column in queries]
    x, y, width, height, interior_x, interior_y = _object(data / "images.csv", image)
    scale, offset = _placement(upright_size(data / image), size, crop_fraction)
    patch = size / grid
    inside = np.array([interior_x + 0.5, interior_y + 0.5]) * scale - offset  # x, y in px of the input
    if not ((inside >= 0) & (inside < size)).all():
        raise UserError(
            f"the object of {image} lies outside the centre crop; choose another figures.attention_maps.image"
        )
    box = np.array([[x, y], [x + width, y + height]]) * scale - offset
    on = (int(inside[1] // patch), int(inside[0] // patch))
    return [on, _farthest(grid, patch, box, inside)]


def _farthest(grid: int, patch: float, box: np.ndarray, inside: np.ndarray) -> Patch:
    """The patch whose centre is farthest from the box; among equals the one farthest from the point inside."""
    place = (np.arange(grid) + 0.5) * patch
    centres = np.stack(np.meshgrid(place, place, indexing="xy"), axis=-1)  # (row, column, [x, y])
    outside = np.maximum(np.maximum(box[0] - centres, centres - box[1]), 0)
    from_box = np.hypot(outside[..., 0], outside[..., 1]).round(6)
    from_point = np.hypot(*(centres - inside).transpose(2, 0, 1))
    order = np.lexsort((from_point.ravel(), from_box.ravel()))
    row, column = divmod(int(order[-1]), grid)
    return row, column


def _placement(stored: tuple[int, int], size: int, crop_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset (x, y) that take a point of the stored image to the input: the geometry of ``decode``."""
    shorter = round(size / crop_fraction)
    resized = np.array([max(size, round(side * shorter / min(stored))) for side in stored])
    return resized / np.array(stored), (resized - size) // 2


def _object(path: Path, image: str) -> list[float]:
    if not path.exists():
        raise UserError(
            f"{path} does not exist, so the place of the object is unknown; give two patches as "
            "figures.attention_maps.queries: [[row, column], [row, column]]"
        )
    table = read_text_table(path, ("path", *_COLUMNS), "rebuild the data set")
    row = table.loc[table["path"] == image, list(_COLUMNS)]
    if len(row) != 1:
        raise UserError(f"{path} has {len(row)} rows for {image}; rebuild the data set")
    with parsing(path, "table", "rebuild the data set"):
        return row.iloc[0].astype(float).tolist()
