"""Cosine and sine that are the same on every processor, to little more than half a unit of the last place.

See :mod:`.exact`. The steps are those of the GNU C library (``sysdeps/ieee754/dbl-64/s_sin.c``) where a processor has
fused products: a table of both functions at every 1/128, and short polynomials between. The table is computed here.
"""

from __future__ import annotations

import math
from functools import cache

from cl_vs_mim.data.products import fused as _fused

_S = tuple(map(float.fromhex, (
    "-0x1.5555555555555p-3", "0x1.1111111110ECEp-7", "-0x1.A01A019DB08B8p-13", "0x1.71DE27B9A7ED9p-19",
    "-0x1.ADDFFC2FCDF59p-26",
)))  # fmt: skip
_SN3, _SN5 = -1.66666666666664880952546298448555e-01, 8.33333214285722277379541354343671e-03
_CS2, _CS4, _CS6 = (
    4.99999999999999999999950396842453e-01,
    -4.16666666666664434524222570944589e-02,
    1.38888874007937613028114285595617e-03,
)
_HALF_PI = float.fromhex("0x1.921FB54442D18p0"), float.fromhex("0x1.1A62633145C07p-54")
_PARTS = tuple(map(float.fromhex, (
    "0x1.921FB58000000p0", "-0x1.DDE973C000000p-27", "-0x1.CB3B398000000p-55", "-0x1.d747f23e32ed7p-83",
)))  # fmt: skip
_TO_WHOLE, _TO_128TH = 1.5 * 2.0**52, 1.5 * 2.0**45  # added and taken away again, they round
_NEAR = 0.855469, 2.426265  # limits of the ways below


def cos_sin(angle: float) -> tuple[float, float]:
    """Cosine and sine of an ``angle`` (radians) of up to a million turns."""
    size = abs(angle)
    if size < _NEAR[0]:
        return _cos(angle, 0.0), _sin(angle, 0.0)
    if size < _NEAR[1]:
        rest = _HALF_PI[0] - size
        near = rest + _HALF_PI[1]
        return _sin(near, (rest - near) + _HALF_PI[1]), math.copysign(_cos(rest, _HALF_PI[1]), angle)
    turns = _fused(angle, 2 / math.pi, _TO_WHOLE) - _TO_WHOLE
    rest = _fused(-turns, _PARTS[1], _fused(-turns, _PARTS[0], angle))
    step = turns * _PARTS[2]
    once = rest - step
    low = (rest - once) - step
    step = turns * _PARTS[3]
    high = once - step
    low += (once - high) - step
    cosine, sine = _cos(high, low), _sin(high, low)
    return ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[int(turns) % 4]


def _cos(high: float, low: float) -> float:
    low = -low if high < 0 else low
    size = abs(high)
    place = (_TO_128TH + size) - _TO_128TH
    x = size - place + low
    square = x * x
    s = _fused(x * square, _fused(square, _SN5, _SN3), x)
    c = square * _fused(square, _fused(square, _CS6, _CS4), _CS2)
    cosine, cosine_low, sine, sine_low = _table(round(place * 128))
    return cosine + _fused(-sine, s, _fused(-cosine, c, _fused(-s, sine_low, cosine_low)))


def _sin(high: float, low: float) -> float:
    if abs(high) < 0.126:
        square, total = high * high, _S[4]
        for coefficient in _S[3::-1]:
            total = _fused(total, square, coefficient)
        return high + _fused(_fused(total, high, -0.5 * low), square, low)
    low = -low if high <= 0 else low
    size = abs(high)
    place = (_TO_128TH + size) - _TO_128TH
    x = size - place
    square = x * x
    s = x + _fused(x * square, _fused(square, _SN5, _SN3), low)
    c = _fused(square, _fused(square, _fused(square, _CS6, _CS4), _CS2), x * low)
    cosine, cosine_low, sine, sine_low = _table(round(place * 128))
    return math.copysign(sine + _fused(cosine, s, _fused(-sine, c, _fused(s, cosine_low, sine_low))), high)


@cache
def _table(place: int) -> tuple[float, float, float, float]:
    """Cosine and sine of ``place`` / 128, each as the nearest number and what is left: Taylor's series in integers."""
    one = 1 << 200
    position, term, order, sums = place * one // 128, one, 0, [one, 0]
    while abs(term) > 1:
        order += 1
        term = (term * position >> 200) // order
        sums[order % 2] += -term if order % 4 in (2, 3) else term
    (cosine, cosine_low), (sine, sine_low) = (_split(value, one) for value in sums)
    return cosine, cosine_low, sine, sine_low


def _split(value: int, one: int) -> tuple[float, float]:
    numerator, denominator = (high := value / one).as_integer_ratio()
    return high, (value - numerator * one // denominator) / one
