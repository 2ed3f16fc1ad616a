"""Kit pictures made ready for composing: cut-outs and backgrounds as small image pyramids, kept once per process.

Everything here is uint8 BGR with straight (not premultiplied) alpha; sizes in pixels unless called a fraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from cl_vs_mim.data import exact
from cl_vs_mim.data.kit import Kit, KitFile
from cl_vs_mim.data.scenery import Scenery

MAX_ENLARGEMENT = 1.15  # of any kit picture: beyond it softness shows
_RIM = 4  # px of transparent border around a cut-out
_TEXTURE_CANVAS = 768  # px; textures are repeated up to this size
_SEAMLESS_BELOW = 200  # px; the small patterns are made to be repeated, larger photos are mirrored at their edges

# ------------------------------------------------------------------------------------------------
# Cut-outs
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cutout:
    """An object without its fringe, at several sizes.

    Attributes:
        levels: (h, w, 4) uint8 BGRA, each 1/sqrt(2) of the one before.
        hull: (points, 2) float, convex hull of the opaque pixels, origin at the picture's centre.
        mean, std: (3,) float, BGR mean of the opaque pixels; deviation of their lightness.
        interior: (x, y, half side) of the largest opaque square, in pixels of level 0.
    """

    file: KitFile
    levels: tuple[np.ndarray, ...]
    hull: np.ndarray
    mean: np.ndarray
    std: float
    interior: tuple[int, int, int]

    @property
    def longest(self) -> int:
        """Longest side of the object itself, px."""
        return max(self.file.width, self.file.height)

    @classmethod
    def prepare(cls, file: KitFile, pixels: np.ndarray) -> Cutout:
        """Remove the fringe and build the pyramid. ``pixels``: (h, w, 4) BGRA uint8."""
        # A transparent rim, coloured like the edge, so that interpolation never meets the void.
        rim = cv2.copyMakeBorder(pixels, _RIM, _RIM, _RIM, _RIM, cv2.BORDER_REPLICATE)
        rim[..., 3] = cv2.copyMakeBorder(pixels[..., 3], _RIM, _RIM, _RIM, _RIM, cv2.BORDER_CONSTANT, value=0)
        pixels = _without_fringe(rim)
        opaque = pixels[..., 3] > 127
        contours, _ = cv2.findContours(opaque.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        height, width = opaque.shape
        hull = cv2.convexHull(np.concatenate(contours))[:, 0].astype(float) + 0.5 - (width / 2, height / 2)
        inside = pixels[opaque][:, :3].astype(np.float32)
        padded = cv2.copyMakeBorder(opaque.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        depth = cv2.distanceTransform(padded, cv2.DIST_C, 3)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        levels = [pixels]
        while max(levels[-1].shape[:2]) > 32:
            levels.append(_half_octave_smaller(levels[-1]))
        blue, green, red = inside.T  # no matrix product, whose last digit depends on the processor
        lightness = blue * np.float32(0.114) + green * np.float32(0.587) + red * np.float32(0.299)
        interior = (int(x), int(y), max(int(depth[y, x]) - 1, 1))
        return cls(file, tuple(levels), hull, inside.mean(0), float(lightness.std()), interior)


def _without_fringe(pixels: np.ndarray) -> np.ndarray:
    """Pull the edge in by about half a pixel and give what is left of it the colour of the inside.

    The sources' edges carry some of the background the object was cut from; a light seam is what gives a
    composite away first.
    """
    alpha = pixels[..., 3].astype(np.float32) / 255
    inner = np.clip((exact.blur(alpha, 0.8) - 0.35) / 0.6, 0, 1) * alpha
    sure = np.clip((exact.blur(alpha, 1.2) - 0.85) / 0.1, 0, 1)
    colour = pixels[..., :3].astype(np.float32)
    bled = _normalised_blur(colour, sure, 1.5)
    weight = sure[..., None]
    mixed = np.where(np.isfinite(bled), colour * weight + bled * (1 - weight), colour)
    return np.dstack([mixed, inner * 255]).round().clip(0, 255).astype(np.uint8)


def _normalised_blur(colour: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Blur of ``colour`` (h, w, 3) counting pixels by ``weight`` (h, w); NaN where no weight is near."""
    total = exact.blur(weight, sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        blurred = exact.blur(colour * weight[..., None], sigma) / total[..., None]
    return np.where(total[..., None] > 1e-3, blurred, np.nan)


def _half_octave_smaller(pixels: np.ndarray) -> np.ndarray:
    """Smaller by sqrt(2) in premultiplied colour, so that hidden colours do not bleed in."""
    size = tuple(max(1, round(side / math.sqrt(2))) for side in pixels.shape[1::-1])
    alpha = pixels[..., 3:].astype(np.float32) / 255
    colour = cv2.resize(pixels[..., :3] * np.maximum(alpha, 0.02), size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(np.maximum(alpha, 0.02), size, interpolation=cv2.INTER_AREA)
    small_alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) * 255
    return np.dstack([colour / weight[..., None], small_alpha]).round().clip(0, 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------------
# Backgrounds and textures
# ------------------------------------------------------------------------------------------------


def _pyramid(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [pixels]
    while min(levels[-1].shape[:2]) > 32:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return tuple(levels)


def tile(pixels: np.ndarray, side: int) -> np.ndarray:
    """Repeat a texture (h, w, 3) to at least ``side`` px each way; photos are mirrored so that no seam shows."""
    if min(pixels.shape[:2]) >= _SEAMLESS_BELOW:
        pixels = np.concatenate([pixels, pixels[::-1]], 0)
        pixels = np.concatenate([pixels, pixels[:, ::-1]], 1)
    height, width = pixels.shape[:2]
    return np.tile(pixels, (math.ceil(side / height), math.ceil(side / width), 1))[:side, :side]


def crop(levels: tuple[np.ndarray, ...], x: float, y: float, side: float, size: int) -> np.ndarray:
    """Square with corner (x, y) and ``side`` px of level 0 as (size, size, 3) uint8, read from the nearest level."""
    level = min(len(levels) - 1, max(0, math.frexp(max(side / size, 1.0))[1] - 1))
    picture = levels[level]
    factor = picture.shape[1] / levels[0].shape[1]
    edge = max(1, min(round(side * factor), *picture.shape[:2]))
    left = min(max(0, round(x * factor)), picture.shape[1] - edge)
    top = min(max(0, round(y * factor)), picture.shape[0] - edge)
    part = picture[top : top + edge, left : left + edge]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if edge >= size else cv2.INTER_CUBIC)


class Pieces:
    """The kit's pictures, prepared on first use and kept for the life of the process."""

    def __init__(self, kit: Kit, scenery: Scenery) -> None:
        self.kit = kit
        self.scenery = scenery
        self._cutouts: dict[str, Cutout] = {}
        self._pyramids: dict[str, tuple[np.ndarray, ...]] = {}
        self._means: dict[str, np.ndarray] = {}

    def cutout(self, file: KitFile) -> Cutout:
        """The object ``file``, prepared; raises as :meth:`Kit.read` does."""
        if file.path not in self._cutouts:
            self._cutouts[file.path] = Cutout.prepare(file, self.kit.read(file))
        return self._cutouts[file.path]

    def pyramid(self, file: KitFile) -> tuple[np.ndarray, ...]:
        """Background or (repeated) texture as (h, w, 3) uint8 levels, each half of the one before."""
        if file.path not in self._pyramids:
            pixels = self.kit.read(file)
            self._pyramids[file.path] = _pyramid(tile(pixels, _TEXTURE_CANVAS) if file.kind == "texture" else pixels)
        return self._pyramids[file.path]

    def mean(self, file: KitFile) -> np.ndarray:
        """(3,) mean BGR colour of a background or texture."""
        if file.path not in self._means:
            self._means[file.path] = self.pyramid(file)[-1].reshape(-1, 3).mean(0)
        return self._means[file.path]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cutouts": {}, "_pyramids": {}, "_means": {}}
