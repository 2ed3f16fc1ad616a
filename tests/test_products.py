"""Products of small matrices are rounded as an exact one, on any processor."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cl_vs_mim.data.products import products


@pytest.mark.parametrize("size", [2, 3])
def test_each_product_is_added_before_it_is_rounded(size: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix, vector = rng.normal(size=(size, size)), rng.normal(size=size) * 50
        for order, given in (([1, 0, 2][:size], vector), ([0, 1, 2][:size], vector[None])):
            exact = []
            for row in matrix:
                total = 0.0
                for place in order:
                    total = float(Fraction(row[place]) * Fraction(vector[place]) + Fraction(total))
                exact.append(total)
            assert products(matrix, given).reshape(-1).tolist() == exact
