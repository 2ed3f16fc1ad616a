"""Small products of matrices, and fused products of float64, whose last digit is the same on every processor."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

T = TypeVar("T", float, np.ndarray)


def products(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """``vectors @ matrix.T``, equal on every processor.

    A library of linear algebra fuses products with sums where the processor can, in an order of its own; pictures would
    depend on that. Here it is said once: fused, and in the order of the machines on which data were composed first.
    """
    order = list(range(matrix.shape[1]))
    if vectors.ndim == 1:
        order[:2] = [1, 0]
    columns = [(vectors[..., place, None].astype(np.float64), matrix[:, place]) for place in order]
    total = columns[0][0] * columns[0][1]
    for values, column in columns[1:]:
        total = fused(values, column, total)
    return total


_SPLITTER = 2.0**27 + 1  # halves of a float64


def fused(one: T, other: T, added: T) -> T:
    """``one * other + added`` rounded once (Dekker 1971: the errors of product and sum are known exactly)."""
    product = one * other
    (one_high, one_low), (other_high, other_low) = _halves(one), _halves(other)
    cross = one_high * other_low + one_low * other_high
    lost = ((one_high * other_high - product) + cross) + one_low * other_low
    total = product + added
    shadow = total - product
    return total + (((product - (total - shadow)) + (added - shadow)) + lost)


def _halves(value: T) -> tuple[T, T]:
    high = _SPLITTER * value - (_SPLITTER * value - value)
    return high, value - high
