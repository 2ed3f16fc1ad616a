"""The pixel work: put cut-outs into a view so that they look as if they had been photographed there.

What makes a composite believable, in the order in which it matters: no fringe (:mod:`.pieces`), light and colour that
agree with the surroundings, a shadow where the object touches something, one sharpness and one grain for all parts.
Images are (size, size, 3) float32 BGR, 0 … 255; alphas are (size, size) float32, 0 … 1; angles in degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cl_vs_mim.data import exact
from cl_vs_mim.data.angles import cos_sin
from cl_vs_mim.data.pieces import Cutout
from cl_vs_mim.data.products import products
from cl_vs_mim.data.views import View

_LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of BGR, ITU-R BT.601


@dataclass(frozen=True)
class Pose:
    """Where and how a cut-out lies in the image; ``x`` and ``y`` (px) are its picture's centre."""

    scale: float  # image px per px of the cut-out
    rotation: float  # degrees, counter-clockwise
    mirror: bool
    x: float
    y: float


@dataclass(frozen=True)
class Light:
    """Light on one object, on top of what the surroundings ask for."""

    brightness: float  # gain, 1 = unchanged
    warmth: float  # gain of red over blue, 0 = unchanged
    angle: float  # degrees; where the light comes from, 90 = from above
    relief: float  # how much darker the far side is, 0 = not


# ------------------------------------------------------------------------------------------------
# Geometry
# ------------------------------------------------------------------------------------------------


def _linear(scale: float, rotation: float, mirror: bool) -> np.ndarray:
    """2x2 matrix from the cut-out's to the image's pixels (y points down)."""
    cos, sin = cos_sin(math.radians(rotation))
    matrix = np.array([[cos, sin], [-sin, cos]]) * scale
    if mirror:
        matrix[:, 0] *= -1
    return matrix


def extent(cutout: Cutout, scale: float, rotation: float, mirror: bool) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the opaque pixels relative to the picture's centre, in image px."""
    points = products(_linear(scale, rotation, mirror), cutout.hull)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def warp(cutout: Cutout, pose: Pose, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The cut-out in the image's frame: colour (size, size, 3) uint8 and feathered alpha (size, size) float32."""
    level = 0
    while level + 1 < len(cutout.levels) and pose.scale * math.sqrt(2 ** (level + 1)) <= 1.0:
        level += 1
    picture = cutout.levels[level]
    height, width = cutout.levels[0].shape[:2]
    ratio = np.array([width / picture.shape[1], height / picture.shape[0]])
    matrix = _linear(pose.scale, pose.rotation, pose.mirror) * ratio[None, :]
    # Pixel centres: OpenCV puts pixel i at coordinate i, the geometry above puts it at i + 1/2.
    centre = np.array([picture.shape[1] / 2, picture.shape[0] / 2]) - 0.5
    shift = np.array([pose.x, pose.y]) - 0.5 - products(matrix, centre)
    warped = cv2.warpAffine(
        picture, np.column_stack([matrix, shift]), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    alpha = warped[..., 3].astype(np.float32)
    alpha = exact.blur(alpha, 0.5, length=3)
    np.multiply(alpha - 20, 1 / 225, out=alpha)
    np.clip(alpha, 0, 1, out=alpha)
    return warped[..., :3], alpha


# ------------------------------------------------------------------------------------------------
# Light and colour
# ------------------------------------------------------------------------------------------------

_AMBIENCE = {  # share of the difference to the surroundings that an object takes on: (lightness, colour)
    "underwater": (0.25, 0.45),
    "space": (0.0, 0.05),
    "sky": (0.15, 0.2),
}
_AMBIENCE_ELSEWHERE = (0.3, 0.28)


def _lab(bgr: np.ndarray) -> np.ndarray:
    return cv2.cvtColor((np.asarray(bgr, np.float32) / 255).reshape(1, -1, 3), cv2.COLOR_BGR2LAB)[0]


def _bgr(lab: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.asarray(lab, np.float32).reshape(1, -1, 3), cv2.COLOR_LAB2BGR)[0] * 255


def ambience(view: View, x: float, y: float, radius: float) -> tuple[np.ndarray, float]:
    """Mean colour (3,) BGR around a point (px) mixed with the whole view's, and the spread of lightness there."""
    size = view.size
    left, right = max(0, int(x - radius)), min(size, int(x + radius) + 1)
    top, bottom = max(0, int(y - radius)), min(size, int(y + radius) + 1)
    near, spread = exact.mean_and_spread(view.image[top:bottom, left:right])
    everywhere, _ = exact.mean_and_spread(view.image)
    return 0.5 * near + 0.5 * everywhere, float(spread.mean())


def harmonise(
    colour: np.ndarray,
    cutout: Cutout,
    light: Light,
    surroundings: tuple[np.ndarray, float],
    setting: str,
    box: np.ndarray,
) -> np.ndarray:
    """Match an object's lightness, contrast and colour in part to its surroundings (in CIE Lab), then light it.

    Args:
        colour: (size, size, 3) uint8, from :func:`warp`.
        surroundings: from :func:`ambience`.
        box: left, top, right, bottom (px) of the object, over which the light falls off.
    Returns:
        (size, size, 3) float32.
    """
    strength_l, strength_ab = _AMBIENCE.get(setting, _AMBIENCE_ELSEWHERE)
    around, spread = surroundings
    own, other = _lab(np.stack([cutout.mean, around]))
    target = own.copy()
    # Against a middle grey rather than against each other: a black bird on snow stays black.
    target[0] += np.clip(strength_l * (other[0] - 52), -16, 7)
    target[1:] += np.clip(strength_ab * other[1:], -9, 9)
    target[0] = np.clip(target[0], 6, 96)
    gain = np.clip(_bgr(target)[0] / np.maximum(cutout.mean, 8), 0.4, 1.6)
    gain *= light.brightness * np.array([1 - light.warmth, 1.0, 1 + light.warmth])
    contrast = float(np.clip(exact.power(max(spread, 8) / max(cutout.std, 8), 0.15), 0.85, 1.08))
    saturation = (
        float(np.clip(0.82 + np.sqrt(other[1] ** 2 + other[2] ** 2) / 100, 0.82, 1.0)) if setting != "space" else 1.0
    )
    # One affine map of BGR does it all: saturation, contrast about the mean, then the gains.
    matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    offset = (1 - contrast) * products(matrix, cutout.mean)
    affine = np.column_stack([contrast * matrix, offset]) * gain[:, None]
    size = colour.shape[0]
    margin = 3 + size // 24  # blurs that follow must not reach beyond it
    (left, top), (right, bottom) = np.clip((np.floor(box[:2]) - margin, np.ceil(box[2:]) + margin), 0, size)
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
    part = exact.colours(colour[rows, columns].astype(np.float32), affine)
    if light.relief:
        part *= _relief(light, box, size)[rows, columns, None]
    lit = np.zeros((size, size, 3), np.float32)  # outside the box nothing of it shows
    lit[rows, columns] = part
    return lit


def _relief(light: Light, box: np.ndarray, size: int) -> np.ndarray:
    """(size, size) float32: brighter towards the light, darker away from it."""
    cos, sin = cos_sin(math.radians(light.angle))
    half = max(float(box[2] - box[0]), float(box[3] - box[1])) / 2 + 1e-6
    xs = np.clip((np.arange(size, dtype=np.float32) - float(box[0] + box[2]) / 2) / half, -1, 1) * cos
    ys = np.clip((np.arange(size, dtype=np.float32) - float(box[1] + box[3]) / 2) / half, -1, 1) * -sin
    return np.add.outer((1 + light.relief * ys).astype(np.float32), (light.relief * xs).astype(np.float32))


# ------------------------------------------------------------------------------------------------
# Shadows
# ------------------------------------------------------------------------------------------------


def contact_shadow(alpha: np.ndarray, box: np.ndarray, light: Light, strength: float) -> np.ndarray:
    """Shadow of something that stands: dark where it touches, and its flattened outline away from the light.

    Returns (size, size) float32, the share of light taken away.
    """
    size = alpha.shape[0]
    left, top, right, base = map(float, box)
    height, width = base - top, right - left
    lean = -cos_sin(math.radians(light.angle))[0]  # -1 … 1: to which side it falls
    # The outline laid down on the ground: its height becomes a short way back and sideways.
    squash = 0.16
    cast = np.array([[1, -lean * 0.35, lean * 0.35 * base], [0, squash, base * (1 - squash) - 0.01 * height]])
    laid = exact.blur(exact.warp(alpha, cast), max(0.6, 0.022 * max(height, width)))
    # The lowest part only, tight and dark.
    start = base - 0.14 * height
    rows = np.clip((np.arange(size, dtype=np.float32) - start) / max(base - start, 1.0), 0, 1)
    foot = alpha * rows[:, None]
    squash = 0.3
    press = np.array([[1, 0, 0], [0, squash, base * (1 - squash) + 0.004 * height]])
    foot = exact.blur(exact.warp(foot, press), max(0.5, 0.013 * max(height, width)))
    return np.minimum(strength * (0.6 * laid + 0.75 * foot), 0.85)


def drop_shadow(alpha: np.ndarray, box: np.ndarray, light: Light, strength: float) -> np.ndarray:
    """Shadow of something that lies on a surface seen from above: (size, size) float32, the share of light taken."""
    reach = 0.028 * max(box[2] - box[0], box[3] - box[1])
    cos, sin = cos_sin(math.radians(light.angle))
    shift = np.array([[1, 0, -cos * reach], [0, 1, sin * reach]])
    soft = exact.blur(exact.warp(alpha, shift), max(0.7, 0.9 * reach))
    tight = exact.blur(alpha, max(0.6, 0.35 * reach))
    return np.minimum(strength * (0.7 * soft + 0.35 * tight), 0.85)


def reflection(
    image: np.ndarray, colour: np.ndarray, alpha: np.ndarray, box: np.ndarray, strength: float
) -> np.ndarray:
    """``image`` with the object mirrored in the water below its base line, fading with depth."""
    size = alpha.shape[0]
    base, height = float(box[3]), float(box[3] - box[1])
    flip = np.array([[1.0, 0, 0], [0, -0.55, base * 1.55 - 1.0]])
    weight = exact.blur(exact.warp(alpha, flip), max(0.6, 0.02 * height))
    tint = exact.blur(np.dstack([exact.warp(channel, flip) for channel in cv2.split(colour)]), max(0.6, 0.02 * height))
    fade = np.clip(1 - (np.arange(size, dtype=np.float32) - base) / max(0.55 * height, 1.0), 0, 1)
    weight = (strength * weight * fade[:, None])[..., None]
    return image * (1 - weight) + (0.75 * tint) * weight


# ------------------------------------------------------------------------------------------------
# Lens and sensor
# ------------------------------------------------------------------------------------------------


def depth_of_field(image: np.ndarray, focus: float, sigma: float) -> np.ndarray:
    """Blur what lies far above (behind) the row ``focus`` (px) by up to ``sigma`` px."""
    if sigma < 0.2:
        return image
    size = image.shape[0]
    blurred = exact.blur(image, sigma)
    column = np.clip((float(focus) - np.arange(size, dtype=np.float32)) / (0.3 * size), 0, 1)
    weight = np.repeat(column[:, None], size, 1)
    return cv2.blendLinear(blurred, np.ascontiguousarray(image), weight, 1 - weight)


def sharpness(image: np.ndarray) -> float:
    """Mean absolute Laplacian of the lightness: what an edge detector still finds, 0 … 255."""
    grey = exact.weighted(image, _LUMA)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def lay(image: np.ndarray, colour: np.ndarray, alpha: np.ndarray, shade: np.ndarray | None) -> np.ndarray:
    """Darken ``image`` by ``shade``, then put ``colour`` over it by ``alpha``."""
    if shade is not None:
        image = image * (1 - shade)[..., None]
    return cv2.blendLinear(colour, np.ascontiguousarray(image), alpha, 1 - alpha)


class Grain:
    """Sensor noise from a tile drawn once: one grain over object and background alike."""

    _SIDE = 1024

    def __init__(self) -> None:
        self._tile = np.random.default_rng(0).normal(0, 1, (self._SIDE, self._SIDE)).astype(np.float32)

    def develop(self, image: np.ndarray, rng: np.random.Generator, blur: float, noise: float) -> np.ndarray:
        """The finished picture, uint8: lens blur of ``blur`` px over everything, then ``noise`` levels of grain."""
        size = image.shape[0]
        if blur > 0.15:
            image = exact.blur(image, blur)
        repeats = 1 if size <= self._SIDE // 2 else 2 + size // self._SIDE
        tile = np.tile(self._tile, (repeats, repeats)) if repeats > 1 else self._tile
        x, y = rng.integers(0, self._SIDE // 2, 2)
        grain = tile[y : y + size, x : x + size]
        grain = cv2.merge([noise * grain] * 3)
        return cv2.add(np.ascontiguousarray(image), grain, dtype=cv2.CV_8U)  # rounds and saturates
