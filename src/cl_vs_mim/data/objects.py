"""Single-object images: an ImageFolder whose classes are the identities of the train-split objects.

Three parts are written:

- ``train/<identity>/``: train-split objects on train-split backgrounds;
- ``val/<identity>/``: the same objects on *test-split* backgrounds, in poses, sizes and light never drawn in
  training;
- ``heldout/<category>/``: *test-split objects* on test-split backgrounds, drawn as ``val`` is; the class is the
  category.

Never drawn in training: the range of each of rotation, size, brightness, warmth and light angle is cut into cells
that alternate between training and held-out, with a guard band between neighbours (:class:`.scenery.Comb`). Rotation
cells narrow towards 0 degrees, where a small turn already shows (:data:`.scenery.ROTATION`, of the angle's absolute
value); the others are equal: size :data:`SIZE_STEP`, brightness :data:`BRIGHTNESS_STEP`, warmth :data:`WARMTH_STEP`,
light angle :data:`ANGLE_STEP`.

``images.csv`` has one row per image: path, split, class, identity (the kit's name of the object), category,
background, setting, every parameter drawn, the box of the visible object (``x, y, width, height``, px) and
``interior_x, interior_y``, the pixel deepest inside it (maximum of the distance transform).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from cl_vs_mim.config import ObjectImages
from cl_vs_mim.core.tables import write_table
from cl_vs_mim.data import exact
from cl_vs_mim.data.compose import (
    Grain,
    Light,
    Pose,
    ambience,
    contact_shadow,
    depth_of_field,
    drop_shadow,
    extent,
    harmonise,
    lay,
    reflection,
    sharpness,
    warp,
)
from cl_vs_mim.data.depths import depths
from cl_vs_mim.data.kit import Kit, KitFile
from cl_vs_mim.data.pieces import MAX_ENLARGEMENT, Cutout, Pieces
from cl_vs_mim.data.recipe import KitRecipe
from cl_vs_mim.data.scenery import GROUND_TILT, GROUNDED, Comb, Placement, draw_rotation
from cl_vs_mim.data.views import View, draw_view
from cl_vs_mim.data.writer import Rendered

DATASET = 1  # in the seed of every image
SPLITS = ("train", "val", "heldout")
SIZE_STEP = 0.03  # of the image's side
BRIGHTNESS_STEP = 0.04  # gain
WARMTH_STEP = 0.02  # gain of red over blue
ANGLE_STEP = 10.0  # degrees
SIZE = Comb.regular(0.05, 1.25, SIZE_STEP)
BRIGHTNESS = Comb.regular(0.4, 1.8, BRIGHTNESS_STEP)
WARMTH = Comb.regular(-0.3, 0.3, WARMTH_STEP)
LIGHT_ANGLE = Comb.regular(20.0, 160.0, ANGLE_STEP)
FRAME = 0.94  # largest extent of an object, as a fraction of the image's side

# ------------------------------------------------------------------------------------------------
# Composing one object into one view
# ------------------------------------------------------------------------------------------------


def place(rng: np.random.Generator, view: View, box: tuple[float, float, float, float]) -> tuple[float, float]:
    """Centre (x, y), px, for a picture whose opaque pixels span ``box`` about it, where the setting lets it be."""
    size = view.size
    left, top, right, bottom = box
    margin = 0.02 * size
    x = _between(rng, margin - left, size - margin - right)
    if view.setting in GROUNDED:
        low, high = view.feet[0] * size, view.feet[1] * size
        base = _between(rng, max(low, min(high, bottom - top + margin)), high)
        return x, base - bottom
    if view.setting == "sky":
        lowest = max(view.sky * size, bottom - top + 2 * margin)
        return x, _between(rng, margin - top, min(lowest, size - margin) - bottom)
    return x, _between(rng, margin - top, size - margin - bottom)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high)) if high > low else (low + high) / 2


def ground(
    image: np.ndarray,
    colour: np.ndarray,
    alpha: np.ndarray,
    box: np.ndarray,
    view: View,
    upright: bool,
    light: Light,
    strength: float,
) -> tuple[np.ndarray, np.ndarray | None]:
    """What the object does to the view under it: a reflection in water, a shadow on ground, nothing in the air.

    Returns the image and the shade (size, size) to take away from it, or None.
    """
    if view.setting == "water":
        return reflection(image, colour, alpha, box, 0.45), None
    if view.setting in ("sky", "space", "underwater"):
        return image, None
    if view.flat and not upright:
        return image, drop_shadow(alpha, box, light, strength)
    return image, contact_shadow(alpha, box, light, strength)


def tilt_limit(placement: Placement, view: View) -> float:
    """Largest rotation, degrees either way."""
    if view.setting in GROUNDED:
        return min(GROUND_TILT, placement.tilt)
    return placement.tilt


@dataclass(frozen=True)
class Single:
    """A composed image with what is known about it."""

    image: np.ndarray  # (size, size, 3) uint8 BGR
    alpha: np.ndarray  # (size, size) float32
    row: dict[str, Any]


def compose_single(
    rng: np.random.Generator,
    pieces: Pieces,
    grain: Grain,
    file: KitFile,
    split: str,
    settings: ObjectImages,
    *,
    held_out: bool,
) -> Single:
    """One object on one background of ``split`` (``train`` or ``test``), with parameters of one side of the combs."""
    size = settings.image_size
    cutout = pieces.cutout(file)
    placement = pieces.scenery.placements[file.name]
    choices = pieces.scenery.settings_of(file.name, split)
    setting = choices[int(rng.integers(len(choices)))]
    view = draw_view(rng, pieces, split, setting, size, placement.length_cm, cutout.mean)

    rotation = draw_rotation(rng, held_out, tilt_limit(placement, view))
    mirror = bool(placement.mirror and rng.random() < 0.5)
    fraction = _draw_size(rng, cutout, rotation, mirror, settings, held_out)
    light = Light(
        brightness=BRIGHTNESS.draw(rng, held_out, *settings.brightness),
        warmth=WARMTH.draw(rng, held_out, *settings.warmth),
        angle=LIGHT_ANGLE.draw(rng, held_out),
        relief=float(rng.uniform(0.0, 0.12)),
    )
    scale = fraction * size / cutout.longest
    box = extent(cutout, scale, rotation, mirror)
    x, y = place(rng, view, box)
    pose = Pose(scale, rotation, mirror, x, y)
    shadow = float(rng.uniform(0.35, 0.65))
    blur, noise = float(rng.uniform(0.0, 0.45)) * size / 96, float(rng.uniform(0.5, 2.5))
    focus = float(rng.uniform(0.0, 1.0))

    image, alpha = paste_single(view, cutout, placement, pose, light, shadow, focus)
    finished = grain.develop(image, rng, min(blur, 0.8), noise)
    row = {
        "identity": file.name,
        "category": file.category,
        "background": "+".join(view.names),
        "setting": setting,
        "rotation": rotation,
        "size": fraction,
        "scale": scale,
        "mirror": int(mirror),
        "center_x": x,
        "center_y": y,
        "brightness": light.brightness,
        "warmth": light.warmth,
        "light_angle": light.angle,
        "relief": light.relief,
        "shadow": shadow,
        "blur": blur,
        "noise": noise,
        **visible_box(alpha > 0.5),
    }
    return Single(finished, alpha, row)


def paste_single(
    view: View, cutout: Cutout, placement: Placement, pose: Pose, light: Light, shadow: float, focus: float
) -> tuple[np.ndarray, np.ndarray]:
    """The composite before grain, (size, size, 3) float32, and the object's alpha, (size, size) float32."""
    size = view.size
    colour, alpha = warp(cutout, pose, size)
    left, top, right, bottom = extent(cutout, pose.scale, pose.rotation, pose.mirror)
    box = np.array([pose.x + left, pose.y + top, pose.x + right, pose.y + bottom])
    radius = max(right - left, bottom - top) / 2
    lit = harmonise(colour, cutout, light, ambience(view, pose.x, pose.y, radius), view.setting, box)
    image = view.image
    if view.setting in ("land", "road"):
        # A small thing that fills the picture was photographed from near by: its background is far out of focus.
        nearness = float(np.clip(120.0 / placement.length_cm, 0.3, 2.5))
        image = depth_of_field(image, box[3], 0.006 * size * (0.4 + focus) * nearness)
    lit = match_sharpness(lit, image, alpha)
    image, shade = ground(image, lit, alpha, box, view, placement.upright, light, shadow)
    return lay(image, lit, alpha, shade), alpha


def match_sharpness(lit: np.ndarray, image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Soften an object that is much crisper than a picture which is soft everywhere."""
    softness = 3.0 - sharpness(image)  # below 3 levels there is no detail left to compare with
    if softness <= 0:
        return lit
    return exact.blur(lit, 0.3 + 0.1 * softness * lit.shape[0] / 96)


def _draw_size(
    rng: np.random.Generator, cutout: Cutout, rotation: float, mirror: bool, settings: ObjectImages, held_out: bool
) -> float:
    """Longest side of the unturned object over the image's side: inside the frame and hardly enlarged."""
    left, top, right, bottom = extent(cutout, 1.0 / cutout.longest, rotation, mirror)
    fits = FRAME / max(right - left, bottom - top)
    sharp = MAX_ENLARGEMENT * cutout.longest / settings.image_size
    high = min(settings.size[1], fits, sharp)
    return SIZE.draw(rng, held_out, min(settings.size[0], high - 3 * SIZE_STEP), high)


def visible_box(mask: np.ndarray) -> dict[str, int]:
    """Tight box of a (size, size) bool mask and the pixel deepest inside it, in px; zeros for an empty mask."""
    pixels = np.ascontiguousarray(mask, np.uint8)
    x, y, width, height = cv2.boundingRect(pixels)
    padded = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = depths(padded)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return {"x": x, "y": y, "width": width, "height": height, "interior_x": int(column), "interior_y": int(row)}


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """(height, width, 3) uint8 BGR as JPEG."""
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("JPEG encoding failed")
    return content.tobytes()


# ------------------------------------------------------------------------------------------------
# The data set
# ------------------------------------------------------------------------------------------------


class ObjectRecipe(KitRecipe[ObjectImages]):
    """All three parts, in the order train, val, heldout; see :class:`.writer.Recipe`."""

    name = "objects"

    def __init__(self, kit: Kit, settings: ObjectImages, seed: int) -> None:
        super().__init__(kit, settings, seed)
        train, test = kit.select("object", "train"), kit.select("object", "test")
        self._parts = (
            (train, settings.train_per_identity),
            (train, settings.val_per_identity),
            (test, settings.heldout_per_object),
        )

    def counts(self) -> dict[str, int]:
        return dict(zip(SPLITS, (len(files) * count for files, count in self._parts), strict=True))

    def render(self, index: int) -> Rendered:
        """Image ``index`` of the whole data set."""
        number = 0
        while index >= (length := len(self._parts[number][0]) * self._parts[number][1]):
            index -= length
            number += 1
        files, count = self._parts[number]
        file, repeat = files[index // count], index % count
        split = SPLITS[number]
        rng = np.random.default_rng([self.seed, DATASET, number, index])
        single = compose_single(
            rng,
            self.pieces,
            self._grain,
            file,
            "train" if split == "train" else "test",
            self.settings,
            held_out=number > 0,
        )
        label = file.category if split == "heldout" else file.name
        path = f"{split}/{label}/{file.name}_{repeat:05d}.jpg"
        row = {"path": path, "split": split, "class": label, **single.row}
        return Rendered({path: encode_jpeg(single.image, self.settings.jpeg_quality)}, row)

    def finish(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """``images.csv``."""
        write_table(folder / "images.csv", pd.DataFrame(rows))
