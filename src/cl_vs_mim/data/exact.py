"""Arithmetic on pictures whose last digit is the same on every processor.

OpenCV, numpy and the C library choose their code by the processor: wider registers sum in another order, and where
there is a fused product (``a * b + c``, rounded once) they use it. Composed data would have another hash elsewhere. So
whatever depends on that is written out here with operations that IEEE 754 defines to the last bit (sum, product,
quotient, root), in one order. The order, fused products included, is that of the machines on which data were composed
first, so that what was composed before keeps its bytes.

A fused product of float32 is a product and a sum in float64, where the product is exact, rounded at the end. (The sum
is rounded once before that, so that the last digit of float32 may in rare cases not be that of the processor's own
fused product; it is the same everywhere, which is what counts.)

Pictures are (h, w) or (h, w, channels) float32.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np

T = TypeVar("T", float, np.ndarray)


def fused(one: np.ndarray, other: np.ndarray | np.float32, added: np.ndarray | np.float32) -> np.ndarray:
    """``one * other + added`` in float32, rounded once."""
    product = np.multiply(one, other, dtype=np.float64)
    product += added
    return product.astype(np.float32)


# ------------------------------------------------------------------------------------------------
# Filters
# ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _taps(length: int, sigma: float) -> tuple[np.float32, ...]:
    return tuple(cv2.getGaussianKernel(length, sigma, cv2.CV_32F)[:, 0])  # OpenCV computes it in software


def blur(image: np.ndarray, sigma: float, length: int = 0) -> np.ndarray:
    """``cv2.GaussianBlur`` of a picture, mirrored at its edges; ``sigma`` and the kernel's ``length`` in px."""
    image = np.ascontiguousarray(image)
    taps = _taps(length or round(8 * sigma + 1) | 1, float(sigma))
    reach = len(taps) // 2
    wide = cv2.copyMakeBorder(image, 0, 0, reach, reach, cv2.BORDER_REFLECT_101)
    columns = [wide[:, start : start + image.shape[1]] for start in range(len(taps))]
    if len(taps) == 3:
        across = fused(columns[1], taps[1], (columns[0] + columns[2]) * taps[0])
    elif len(taps) == 5:
        across = fused(columns[2], taps[2], (columns[1] + columns[3]) * taps[1])
        across = fused(columns[0] + columns[4], taps[0], across)
    else:
        across = columns[0] * taps[0]
        for column, tap in zip(columns[1:], taps[1:], strict=True):
            across = fused(column, tap, across)
    high = cv2.copyMakeBorder(across, reach, reach, 0, 0, cv2.BORDER_REFLECT_101)
    rows = [high[start : start + image.shape[0]] for start in range(len(taps))]
    down = rows[reach] * taps[reach]
    for step in range(1, reach + 1):
        down = fused(rows[reach + step] + rows[reach - step], taps[reach + step], down)
    return down


def colours(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """An affine map of colours: (h, w, 3) float32 by the (3, 4) ``matrix``; (h, w, 3) float32."""
    channels = cv2.split(np.ascontiguousarray(image))
    mapped = []
    for row in matrix.astype(np.float32):
        total = np.full(image.shape[:2], row[3])
        for place in (2, 1, 0):
            total = fused(channels[place], row[place], total)
        mapped.append(total)
    return cv2.merge(mapped)


def weighted(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of three channels by ``weights`` (3,): (h, w) float32."""
    first, second, third = cv2.split(np.ascontiguousarray(image))
    return fused(third, weights[2], fused(first, weights[0], second * weights[1]))


def mean_and_spread(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, (channels,) float64."""
    values = image.reshape(-1, image.shape[2]).astype(np.float64)
    mean = values.sum(0) / len(values)
    square = (values * values).sum(0) / len(values)
    return mean, np.sqrt(np.maximum(square - mean * mean, 0))


# ------------------------------------------------------------------------------------------------
# Geometry
# ------------------------------------------------------------------------------------------------

_FRACTIONS = 32  # places between two pixels that a warp tells apart
_VECTOR = 16  # pixels that were summed at once on the first machines; what is left of a row was summed one by one


def warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``cv2.warpAffine`` of a square (size, size), bilinear, dark outside; ``matrix`` (2, 3) from old to new."""
    size = len(image)
    x, y, inside = _sources(np.asarray(matrix, np.float64), size)
    right, down = ((place % _FRACTIONS / _FRACTIONS).astype(np.float32) for place in (x, y))
    framed = np.zeros((size + 2, size + 2), np.float32)
    framed[1:-1, 1:-1] = image
    column, row = (np.clip(place // _FRACTIONS + 1, 0, size) for place in (x, y))
    outside = (x // _FRACTIONS < -1) | (x // _FRACTIONS >= size) | (y // _FRACTIONS < -1) | (y // _FRACTIONS >= size)
    corners = (framed[row, column], framed[row, column + 1], framed[row + 1, column], framed[row + 1, column + 1])
    shares = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
    single = corners[0] * shares[0]
    for corner, share in zip(corners[1:], shares[1:], strict=True):
        single = single + corner * share
    together = corners[3] * shares[3]
    for place in (2, 1, 0):
        together = fused(corners[place], shares[place], together)
    first, length = inside.argmax(1), inside.sum(1)
    vectors = inside & (np.arange(size) - first[:, None] < (length // _VECTOR * _VECTOR)[:, None])
    return np.where(outside, np.float32(0), np.where(vectors, together, single))


def _sources(matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each new pixel comes from, (size, size) int, in fractions of a px; and whether all four around it exist."""
    (a, b, e), (c, d, f) = matrix.tolist()
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    e, f = -a * e - b * f, -c * e - d * f
    steps = np.arange(size, dtype=np.float64)
    fine = 1024.0  # of a px, to which columns and rows are rounded before they are added

    def places(across: float, down: float, offset: float) -> np.ndarray:
        rows = np.rint((down * steps + offset) * fine).astype(np.int64) + int(fine) // _FRACTIONS // 2
        return (rows[:, None] + np.rint(across * steps * fine).astype(np.int64)) // (int(fine) // _FRACTIONS)

    x, y = places(a, b, e), places(c, d, f)
    last = (size - 1) * _FRACTIONS
    return x, y, (x >= 0) & (x < last) & (y >= 0) & (y < last)


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """``cv2.resize`` of a square float32 (n, n, 3) to (size, size, 3), bicubic."""
    count = len(image)
    places = (np.arange(size) + 0.5) * (count / size) - 0.5
    first = np.floor(places).astype(int)
    shares = _cubic(places - first)
    needed = first[:, None] + np.arange(-1, 3)
    inside = (needed[:, 0] >= 0) & (needed[:, 3] < count)
    needed = np.clip(needed, 0, count - 1)
    c = [shares[:, tap, None] for tap in range(4)]
    x = [image[:, needed[:, tap]] for tap in range(4)]
    inner = fused(x[0], c[0], x[3] * c[3]) + fused(x[1], c[1], x[2] * c[2])
    # Where a tap lies beyond the edge, each of the four rows was summed one by one, the outer two in another order.
    outer_row = fused(x[3], c[3], fused(x[2], c[2], fused(x[1], c[1], x[0] * c[0])))
    inner_row = fused(x[3], c[3], fused(x[2], c[2], fused(x[0], c[0], x[1] * c[1])))
    c = [shares[:, tap, None, None] for tap in range(4)]
    x = [inner[needed[:, tap]] for tap in range(4)]
    middle = fused(x[0], c[0], x[1] * c[1]) + fused(x[2], c[2], x[3] * c[3])
    x = [(outer_row if tap in (0, 3) else inner_row)[needed[:, tap]] for tap in range(4)]
    edge = (x[0] * c[0] + x[2] * c[2]) + (x[1] * c[1] + x[3] * c[3])
    return np.where((inside[:, None] & inside)[..., None], middle, edge)


def _cubic(t: np.ndarray) -> np.ndarray:
    """Weights (n, 4) float32 of the pixels around a place that lies ``t`` (n,) behind the second (Keys 1981)."""
    a, u = -0.75, 1 - t
    first = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    second = ((a + 2) * t - (a + 3)) * t * t + 1
    third = ((a + 2) * u - (a + 3)) * u * u + 1
    return np.stack([first, second, third, 1 - first - second - third], 1).astype(np.float32)


# ------------------------------------------------------------------------------------------------
# Functions
# ------------------------------------------------------------------------------------------------

_LOG_2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # its upper 33 bits, and what follows


_NUMERATOR = (
    5.082762527590694e-4,
    6.757896990527505e-3,
    5.114512081637298e-2,
    0.24736154348955208,
    0.7257664613233124,
    1,
)
_DENOMINATOR = (2.1595093756858298e-2, -0.27423353904116675, 1)


def exp32(values: np.ndarray) -> np.ndarray:
    """e to the power of ``values``, float32, in the steps of numpy's code for processors with fused products."""
    powers = np.rint(values * np.float32(1 / math.log(2)))
    rest = fused(powers, np.float32(-6.93145752e-1), values)
    rest = fused(powers, np.float32(-1.42860677e-6), rest)
    above, below = np.full_like(rest, _NUMERATOR[0]), np.full_like(rest, _DENOMINATOR[0])
    for coefficient in _NUMERATOR[1:]:
        above = fused(above, rest, np.float32(coefficient))
    for coefficient in _DENOMINATOR[1:]:
        below = fused(below, rest, np.float32(coefficient))
    return np.ldexp(above / below, powers.astype(int))


def exp(value: T) -> T:
    """e to the power of ``value``, to 1e-15."""
    powers = np.rint(value / (_LOG_2[0] + _LOG_2[1]))
    rest = value - powers * _LOG_2[0] - powers * _LOG_2[1]
    total: T | float = 1.0
    for order in range(18, 0, -1):
        total = 1 + total * rest / order
    return np.ldexp(total, np.asarray(powers).astype(int))


def log(value: T) -> T:
    """Natural logarithm of a positive ``value``, to 1e-15."""
    part, powers = np.frexp(value)
    small = part < math.sqrt(0.5)
    part, powers = np.where(small, 2 * part, part), powers - small
    ratio = (part - 1) / (part + 1)
    square = ratio * ratio
    total: T | float = 0.0
    for order in range(25, 0, -2):
        total = total * square + 1 / order
    return powers * _LOG_2[0] + (powers * _LOG_2[1] + 2 * ratio * total)


def power(value: T, exponent: float) -> T:
    """A positive ``value`` to the power of ``exponent``."""
    return exp(exponent * log(value))
