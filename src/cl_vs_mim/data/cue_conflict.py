"""Cue-conflict images: the outline and soft shading of one category, the surface of another one or of a material.

After Geirhos et al. (ICLR 2019, arXiv 1811.12231), who conflict shape and texture by style transfer; here the
surface is taken as it is, from deep inside another object's cut-out, and grown by image quilting (Efros and Freeman,
SIGGRAPH 2001). Both cues come from *test-split* files, as do the backgrounds: no encoder has been trained on either,
so neither cue is favoured by familiarity.

``images.csv``: path, shape_category, shape_identity, texture_category, texture_identity, material, background and
what was drawn. With a material, ``texture_category`` is empty. The kit's ``other`` category is a collection of
distractors, not a category to recognise, and is left out of both cues.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from cl_vs_mim.config import CueConflictImages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import write_table
from cl_vs_mim.data import exact
from cl_vs_mim.data.compose import Pose, extent, warp
from cl_vs_mim.data.depths import depths
from cl_vs_mim.data.kit import Kit, KitFile
from cl_vs_mim.data.labels import NO_CATEGORY
from cl_vs_mim.data.objects import FRAME, encode_jpeg, visible_box
from cl_vs_mim.data.pieces import MAX_ENLARGEMENT, Cutout, Pieces
from cl_vs_mim.data.recipe import KitRecipe
from cl_vs_mim.data.scenery import draw_rotation
from cl_vs_mim.data.writer import Rendered

DATASET = 3  # in the seed of every image
SPLIT = "test"
MIN_PATCH = 26  # px; side of the smallest surface that still shows what it is
SIZES = (0.66, 0.9)  # longest side of the shape over the image's side
_CANDIDATES = 24  # places in the source that are compared for each block

# ------------------------------------------------------------------------------------------------
# Growing a surface
# ------------------------------------------------------------------------------------------------


def quilt(rng: np.random.Generator, patch: np.ndarray, size: int) -> np.ndarray:
    """Grow ``patch`` (h, w, 3) to (size, size, 3), float32, by image quilting with least-error seams."""
    patch = patch.astype(np.float32)
    if min(patch.shape[:2]) >= size + 4:
        top, left = (int(rng.integers(side - size + 1)) for side in patch.shape[:2])
        return patch[top : top + size, left : left + size]
    # A second source, mirrored, doubles what the blocks are chosen from.
    sources = [patch, np.ascontiguousarray(patch[:, ::-1])]
    block = max(8, int(0.6 * min(patch.shape[:2])))
    overlap = max(3, block // 4)
    step = block - overlap
    count = math.ceil(max(size - overlap, 1) / step)
    canvas = np.zeros((count * step + overlap,) * 2 + (3,), np.float32)
    for row in range(count):
        for column in range(count):
            y, x = row * step, column * step
            under = canvas[y : y + block, x : x + block]
            known = np.zeros((block, block), bool)
            known[:overlap] |= row > 0
            known[:, :overlap] |= column > 0
            chosen = _best_block(rng, sources, under, known, block)
            keep = np.ones((block, block), bool)
            error = ((chosen - under) ** 2).sum(2)
            if column > 0:
                keep[:, :overlap] &= _right_of_seam(error[:, :overlap])
            if row > 0:
                keep[:overlap] &= _right_of_seam(error[:overlap].T).T
            weight = cv2.blur(keep.astype(np.float32), (3, 3))[..., None]
            weight[~known] = 1.0
            under += (chosen - under) * weight
    return canvas[:size, :size]


def _best_block(
    rng: np.random.Generator, sources: list[np.ndarray], under: np.ndarray, known: np.ndarray, block: int
) -> np.ndarray:
    """The best match among a few random blocks for what is already there, (block, block, 3)."""
    best, least = None, np.inf
    height, width = sources[0].shape[:2]
    for _ in range(_CANDIDATES if known.any() else 1):
        source = sources[int(rng.integers(len(sources)))]
        top, left = int(rng.integers(height - block + 1)), int(rng.integers(width - block + 1))
        candidate = source[top : top + block, left : left + block]
        error = float(((candidate - under)[known] ** 2).sum())
        if error < least:
            best, least = candidate, error
    assert best is not None, "no block has a finite error"
    return best


def _right_of_seam(error: np.ndarray) -> np.ndarray:
    """(rows, overlap) bool: True right of the top-to-bottom path of least summed ``error``."""
    rows, width = error.shape
    padded = np.full((rows, width + 2), np.inf, error.dtype)
    cost = padded[:, 1:-1]
    cost[:] = error
    for above, here in zip(padded[:-1], cost[1:], strict=True):
        here += np.minimum(np.minimum(above[:-2], above[1:-1]), above[2:])
    seam = np.empty(rows, int)
    seam[-1] = int(cost[-1].argmin())
    for row in range(rows - 2, -1, -1):
        low = max(seam[row + 1] - 1, 0)
        seam[row] = low + int(cost[row, low : min(seam[row + 1] + 2, width)].argmin())
    return np.arange(width)[None, :] >= seam[:, None]


def _behind(surface: np.ndarray, left: float, top: float, size: int) -> np.ndarray:
    """The surface as seen through an outline whose box begins at (left, top) px: (size, size, 3) float32."""
    rows = np.clip(np.arange(size) - math.floor(top) + 3, 0, len(surface) - 1)
    columns = np.clip(np.arange(size) - math.floor(left) + 3, 0, len(surface) - 1)
    return surface[rows[:, None], columns[None, :]]


def interior(cutout: Cutout) -> np.ndarray:
    """The largest opaque square of a cut-out, (side, side, 3) uint8."""
    x, y, half = cutout.interior
    return cutout.levels[0][y - half : y + half + 1, x - half : x + half + 1, :3]


# ------------------------------------------------------------------------------------------------
# Composing
# ------------------------------------------------------------------------------------------------


def soft_shading(colour: np.ndarray, alpha: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """(size, size, 1) float32, about 1: the object's own light and shade without its markings, darker at its rim."""
    reach = max(box[2] - box[0], box[3] - box[1])
    grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY).astype(np.float32)
    sigma = max(0.8, 0.035 * reach)
    smooth = exact.blur(grey * alpha, sigma) / np.maximum(exact.blur(alpha, sigma), 1e-3)
    mean = float((grey * alpha).sum() / max(float(alpha.sum()), 1.0))
    shading = exact.power(np.clip(smooth / max(mean, 8.0), 0.2, 3.0), 0.45).astype(np.float32)
    depth = depths((alpha > 0.5).astype(np.uint8))
    rim = 1 - 0.28 * exact.exp32(-depth / np.float32(0.03 * reach))
    return (np.clip(shading, 0.6, 1.3) * rim)[..., None]


def _plain(rng: np.random.Generator, size: int, against: float) -> np.ndarray:
    """A plain backdrop, lighter or darker than ``against`` (mean level), with a gentle gradient."""
    level = rng.uniform(185, 235) if against < 130 else rng.uniform(45, 95)
    tint = level * (1 + rng.uniform(-0.05, 0.05, 3))
    rows = np.linspace(1.05, 0.9, size)[:, None, None]
    return (np.ones((size, size, 3)) * tint * rows).astype(np.float32)


def _blurred(rng: np.random.Generator, pieces: Pieces, file: KitFile, size: int) -> np.ndarray:
    """A background photo far out of focus, (size, size, 3) float32."""
    levels = pieces.pyramid(file)
    picture = next((level for level in reversed(levels) if min(level.shape[:2]) >= 48), levels[0])
    side = min(picture.shape[:2])
    top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
    soft = exact.blur(picture[top : top + side, left : left + side].astype(np.float32), 0.06 * side)
    return exact.enlarge(soft, size).clip(0, 255)


class CueConflictRecipe(KitRecipe[CueConflictImages]):
    """Shape categories take turns; see :class:`.writer.Recipe`."""

    name = "cue_conflict"

    def __init__(self, kit: Kit, settings: CueConflictImages, seed: int) -> None:
        super().__init__(kit, settings, seed)
        self._shapes: dict[str, list[KitFile]] = {}
        for file in kit.select("object", SPLIT):
            if file.category != NO_CATEGORY:
                self._shapes.setdefault(file.category, []).append(file)
        if len(self._shapes) < 2:
            raise UserError(f"image kit: {kit.root} needs {SPLIT} objects of two categories for cue-conflict images")

    @cached_property
    def _surfaces(self) -> dict[str, list[KitFile]]:
        """Per category the objects with a large enough interior."""
        large = {
            category: [file for file in files if 2 * self.pieces.cutout(file).interior[2] >= MIN_PATCH]
            for category, files in self._shapes.items()
        }
        return {category: files for category, files in large.items() if files}

    def counts(self) -> dict[str, int]:
        return {"cue_conflict": self.settings.images}

    def render(self, index: int) -> Rendered:
        """Image ``index``."""
        rng = np.random.default_rng([self.seed, DATASET, 0, index])
        size = self.settings.image_size
        categories = sorted(self._shapes)
        category = categories[index % len(categories)]
        shape = self._pick(rng, self._shapes[category])
        patch, cue = self._draw_surface(rng, index, category)

        cutout = self.pieces.cutout(shape)
        placement = self.pieces.scenery.placements[shape.name]
        rotation = draw_rotation(rng, bool(rng.integers(2)), min(placement.tilt, 26.0))
        mirror = bool(placement.mirror and rng.random() < 0.5)
        unit = extent(cutout, 1.0 / cutout.longest, rotation, mirror)
        fits = FRAME / max(unit[2] - unit[0], unit[3] - unit[1])
        # The shape's own pixels only give outline and soft shading, so a little more enlargement does no harm.
        fraction = min(float(rng.uniform(*SIZES)), fits, 1.5 * MAX_ENLARGEMENT * cutout.longest / size)
        scale = fraction * size / cutout.longest
        box = extent(cutout, scale, rotation, mirror)
        slack = [0.5 * max(0.0, FRAME * size - (box[i + 2] - box[i])) for i in (0, 1)]
        x, y = (size / 2 - (box[i] + box[i + 2]) / 2 + float(rng.uniform(-1, 1)) * slack[i] for i in (0, 1))
        colour, alpha = warp(cutout, Pose(scale, rotation, mirror, x, y), size)

        span = math.ceil(max(box[2] - box[0], box[3] - box[1]))
        surface = _behind(quilt(rng, patch, span + 6), x + box[0], y + box[1], size)
        lit = surface * soft_shading(colour, alpha, box)
        if rng.random() < 0.5:
            background, backdrop = "", _plain(rng, size, float(surface.mean()))
        else:
            file = self._pick(rng, self.kit.select("background", SPLIT))
            background, backdrop = file.name, _blurred(rng, self.pieces, file, size)
        image = backdrop + (lit - backdrop) * alpha[..., None]
        finished = self._grain.develop(image, rng, 0.0, 1.0)
        path = f"{category}/{shape.name}_{index:05d}.jpg"
        row = {
            "path": path,
            "shape_category": category,
            "shape_identity": shape.name,
            **cue,
            "background": background,
            "rotation": rotation,
            "size": fraction,
            "mirror": int(mirror),
            **visible_box(alpha > 0.5),
        }
        return Rendered({path: encode_jpeg(finished, self.settings.jpeg_quality)}, row)

    def _draw_surface(self, rng: np.random.Generator, index: int, category: str) -> tuple[np.ndarray, dict[str, str]]:
        """Pixels of the other cue and its labels. Materials come at an exact share, spread over the indices."""
        share = self.settings.material_fraction
        if math.floor((index + 1) * share) > math.floor(index * share):
            materials = self.kit.select("texture", SPLIT)
            names = sorted({file.category for file in materials})
            material = self._pick(rng, names)
            file = self._pick(rng, [file for file in materials if file.category == material])
            return self.kit.read(file), {"texture_category": "", "texture_identity": file.name, "material": material}
        others = [name for name in sorted(self._surfaces) if name != category]
        other = self._pick(rng, others)
        file = self._pick(rng, self._surfaces[other])
        labels = {"texture_category": other, "texture_identity": file.name, "material": ""}
        return interior(self.pieces.cutout(file)), labels

    @staticmethod
    def _pick(rng: np.random.Generator, choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    def finish(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """``images.csv``."""
        write_table(folder / "images.csv", pd.DataFrame(rows))
