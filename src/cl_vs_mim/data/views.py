"""Views to put objects into: a crop of a background photo, or a stage built from textures.

Each setting of :mod:`.scenery` has one builder. All lengths are fractions of the image's side, measured from the top
left, unless they are said to be pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cl_vs_mim.data import exact
from cl_vs_mim.data.angles import cos_sin
from cl_vs_mim.data.pieces import MAX_ENLARGEMENT, Pieces, crop
from cl_vs_mim.data.scenery import GROUNDED, Backdrop

_CHOICES = 8  # backgrounds looked at before one that is too similar is taken after all
_TOO_SIMILAR = 42.0  # mean difference of the BGR channels, 0 … 255
_SMALL_CM = 45.0  # things up to this length stand on a table, larger ones on the floor of a room


@dataclass
class View:
    """A background ready to receive objects.

    Attributes:
        image: (size, size, 3) float32 BGR, 0 … 255.
        names: kit names of the pictures it was made from.
        feet: lowest and highest fraction of the height at which something can stand.
        sky: fraction of the height above which something can fly.
        flat: seen from above, so that things lie on it.
    """

    image: np.ndarray
    setting: str
    names: tuple[str, ...]
    feet: tuple[float, float]
    sky: float
    flat: bool

    @property
    def size(self) -> int:
        """Side of the image, px."""
        return self.image.shape[0]


def draw_view(
    rng: np.random.Generator, pieces: Pieces, split: str, setting: str, size: int, length_cm: float, own: np.ndarray
) -> View:
    """A view of ``setting`` from backgrounds of ``split``, ``size`` px square, for a thing ``length_cm`` long.

    ``own``: (3,) mean colour of the thing, BGR; backgrounds of nearly the same colour, on which nobody would find it,
    are passed over.
    """
    if setting == "stage":
        return _stage(rng, pieces, split, size, length_cm)
    backdrops = pieces.scenery.backdrops(split, setting)
    for _ in range(_CHOICES):
        backdrop = backdrops[int(rng.integers(len(backdrops)))]
        if np.abs(pieces.mean(backdrop.file) - own).mean() > _TOO_SIMILAR:
            break
    if backdrop.file.kind == "texture":
        image = _texture(rng, pieces, backdrop, size)
        view = View(image, setting, (backdrop.file.name,), (0.0, 0.97), 1.0, setting != "underwater")
    else:
        view = _photo(rng, pieces, backdrop, setting, size)
    if setting == "space":
        view.image = _night(rng, view.image)
    return view


# ------------------------------------------------------------------------------------------------
# Photos
# ------------------------------------------------------------------------------------------------


def _photo(rng: np.random.Generator, pieces: Pieces, backdrop: Backdrop, setting: str, size: int) -> View:
    """A square crop that shows enough ground to stand on, or enough sky to fly in."""
    levels = pieces.pyramid(backdrop.file)
    height, width = levels[0].shape[:2]
    short = min(height, width)
    side = min(short, max(short * rng.uniform(0.6, 1.0), size / MAX_ENLARGEMENT))
    low, high = 0.0, height - side
    if setting in GROUNDED:
        low = max(0.0, min(high, backdrop.ground_top * height - 0.85 * side))
    elif setting in ("sky", "space"):
        high = min(high, max(0.0, backdrop.sky_bottom * height - 0.5 * side))
    top = rng.uniform(low, high) if high > low else low
    left = rng.uniform(0.0, width - side) if width > side else 0.0
    image = crop(levels, left, top, side, size)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    ground = (backdrop.ground_top * height - top) / side
    sky = (backdrop.sky_bottom * height - top) / side
    flat = setting == "closeup"
    feet = (0.0, 0.97) if flat else (min(max(ground + 0.03, 0.3), 0.96), 0.97)
    return View(image.astype(np.float32), setting, (backdrop.file.name,), feet, float(np.clip(sky, 0.3, 1.0)), flat)


def _night(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A night sky from a day's: the picture's large shapes, dark and bluish, with stars."""
    size = image.shape[0]
    soft = exact.blur(image, size / 9)
    level = rng.uniform(14, 34) / max(float(soft.mean()), 1.0)
    night = soft * level * np.array([1.25, 0.95, 0.85], np.float32)
    count = int(rng.integers(size // 4, size))
    xs, ys = rng.integers(0, size, (2, count))
    stars = np.zeros((size, size), np.float32)
    stars[ys, xs] = np.minimum(rng.exponential(45.0, count), 210.0)
    stars = np.maximum(stars, exact.blur(stars, 0.5 * size / 96) * 1.5)
    return night + stars[..., None]


# ------------------------------------------------------------------------------------------------
# Textures
# ------------------------------------------------------------------------------------------------


def _texture(rng: np.random.Generator, pieces: Pieces, backdrop: Backdrop, size: int) -> np.ndarray:
    """A surface seen from above, lit a little more from one side."""
    levels = pieces.pyramid(backdrop.file)
    limit = levels[0].shape[0]
    side = min(float(limit), max(size / MAX_ENLARGEMENT, rng.uniform(130, 300)))
    x, y = rng.uniform(0, limit - side, 2)
    image = np.rot90(crop(levels, x, y, side, size), int(rng.integers(4))).astype(np.float32)
    return image * _falloff(rng, size)


def _falloff(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 1) float32, about 1: light that fades across the picture."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    cos, sin = map(np.float64, cos_sin(angle))
    ramp = cos * axis[None, :] + sin * axis[:, None]
    return (1 + strength * ramp)[..., None].astype(np.float32)


def _stage(rng: np.random.Generator, pieces: Pieces, split: str, size: int, length_cm: float) -> View:
    """A floor in perspective; behind it a wall, or for small things a photo far out of focus."""
    scenery = pieces.scenery
    room = length_cm > _SMALL_CM
    floors = scenery.backdrops(split, "floor")
    if not room:  # what small things stand on is a table top too, not tiles as large as they are
        floors = [floor for floor in floors if "tabletop" in floor.settings] or floors
    floor = floors[int(rng.integers(len(floors)))]
    edge = rng.uniform(0.6, 0.78) if room else rng.uniform(0.4, 0.62)
    behind = scenery.backdrops(split, "wall")
    outdoors = scenery.backdrops(split, "land") + scenery.backdrops(split, "closeup")
    if outdoors and (not behind or (not room and rng.random() < 0.65)):
        back = outdoors[int(rng.integers(len(outdoors)))]
        image = _out_of_focus(rng, pieces, back, size)
    else:
        back = behind[int(rng.integers(len(behind)))]
        image = _wall(rng, pieces, back, size, edge, room)
    ground = _floor(rng, pieces, floor, size, edge)
    rows = (np.arange(size, dtype=np.float32) + 0.5) / size
    softness = 0.006 if room else 0.015
    mask = np.clip((rows - edge) / softness + 0.5, 0, 1)[:, None, None]
    # Ambient light hardly reaches the corner between floor and wall.
    corner = 1 - 0.3 * exact.exp32(-(((rows - edge) / 0.05) ** 2))[:, None, None]
    image = (image * (1 - mask) + ground * mask) * (corner if room else 1.0) * _falloff(rng, size)
    names = (floor.file.name, back.file.name)
    return View(image.astype(np.float32), "stage", names, (edge + 0.3 * (1 - edge), 0.95), edge, False)


def _floor(rng: np.random.Generator, pieces: Pieces, floor: Backdrop, size: int, edge: float) -> np.ndarray:
    """The floor's texture laid into perspective below ``edge``: (size, size, 3) float32."""
    levels = pieces.pyramid(floor.file)
    near, spread = rng.uniform(150, 260), rng.uniform(1.8, 2.6)
    texture = levels[1] if near / size > 1.3 and len(levels) > 1 else levels[0]
    factor = texture.shape[0] / levels[0].shape[0]
    near, far, depth = near * factor, near * spread * factor, near * rng.uniform(1.0, 1.6) * factor
    limit = texture.shape[0]
    middle, top = limit / 2 + rng.uniform(-0.1, 0.1) * limit, rng.uniform(0, max(1.0, limit - depth))
    source = [
        (middle - far / 2, top),
        (middle + far / 2, top),
        (middle + near / 2, top + depth),
        (middle - near / 2, top + depth),
    ]
    target = [(0, edge * size), (size, edge * size), (size, size), (0, size)]
    matrix = cv2.getPerspectiveTransform(np.array(source, np.float32), np.array(target, np.float32))
    warped = cv2.warpPerspective(texture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return warped.astype(np.float32)


def _wall(rng: np.random.Generator, pieces: Pieces, wall: Backdrop, size: int, edge: float, room: bool) -> np.ndarray:
    """A wall from the front, a little out of focus: (size, size, 3) float32."""
    levels = pieces.pyramid(wall.file)
    limit = levels[0].shape[0]
    side = min(float(limit), max(size / MAX_ENLARGEMENT, rng.uniform(220, 420)))
    x, y = rng.uniform(0, limit - side, 2)
    image = crop(levels, x, y, side, size).astype(np.float32)
    return exact.blur(image, size * (0.006 if room else 0.02)) * 0.92


def _out_of_focus(rng: np.random.Generator, pieces: Pieces, back: Backdrop, size: int) -> np.ndarray:
    """A photo far behind the plane of focus: (size, size, 3) float32."""
    levels = pieces.pyramid(back.file)
    height, width = levels[0].shape[:2]
    side = min(height, width) * rng.uniform(0.6, 1.0)
    small = max(24, size // 3)
    part = crop(levels, rng.uniform(0, width - side), rng.uniform(0, height - side), side, small)
    blurred = exact.blur(part.astype(np.float32), small * rng.uniform(0.05, 0.11))
    return exact.enlarge(blurred, size).clip(0, 255)
