"""What uniform attention amounts to, apart from torch so that figures and the audit need not wait for it."""

from __future__ import annotations

import numpy as np


def uniform_attention_distance(grid: int, patch_size: int) -> float:
    """The attention distance of a map that looks at all patches alike, px: the mean of all N x N distances.

    The yardstick for "global": 116.49 px on a 14x14 grid of 16 px patches.
    """
    row, column = np.divmod(np.arange(grid**2), grid)
    squares = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2  # (N, N)
    return float(np.sqrt(squares).mean() * patch_size)
