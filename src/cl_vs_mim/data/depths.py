"""How deep each pixel of a mask lies in it: the distance transform, equal on every processor (see :mod:`.exact`)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_STRAIGHT, _DIAGONAL = np.float32(0.955), np.float32(1.3693)  # lengths of steps (Borgefors 1986)
_GROUP = 4  # pixels of a row that were reached at once, from above by every way that ends in steps to the right
_STEPS = _STRAIGHT * np.arange(_GROUP + 1, dtype=np.float32)


def depths(mask: np.ndarray) -> np.ndarray:
    """Distance, px, of each pixel of ``mask`` (h, w) from the nearest 0, in steps to the eight neighbours: float32."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    depth = np.zeros(mask.shape, np.float32)
    if not len(rows):
        return depth
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0) // _GROUP * _GROUP
    part = mask[top : rows[-1] + 2, left : columns[-1] + 2] != 0
    height, width = part.shape
    far = np.float32(2 * sum(mask.shape))
    framed = np.full((height + 2, -(-width // _GROUP) * _GROUP + 2), far)
    framed[1:-1, 1 : width + 1] = np.where(part, far, 0)
    _sweep_down(framed)
    _sweep(framed[::-1, ::-1])
    depth[top : top + height, left : left + width] = framed[1:-1, 1 : width + 1]
    return depth


def _sweep_down(framed: np.ndarray) -> None:
    """Let every pixel be no deeper than ways from above and from the left allow; in place, the frame excepted."""
    place = np.arange(framed.shape[1] - 2) % _GROUP
    for above, here in pairwise(framed[:-1]):
        row = here[1:-1]
        diagonal, straight, own = np.minimum(above[:-2], above[2:]), above[1:-1], row.copy()
        for steps in range(_GROUP):
            way = np.minimum(diagonal + (_DIAGONAL + _STEPS[steps]), straight + _STEPS[steps + 1])
            way = np.minimum(way, own + _STEPS[steps])[: len(row) - steps]
            np.minimum(row[steps:], way, out=row[steps:], where=place[steps:] >= steps)
        groups = row.reshape(-1, _GROUP)
        for start in np.flatnonzero((groups[:-1, -1:] + _STEPS[1:] < groups[1:]).any(1)).tolist():
            for before, group in pairwise(groups[start:]):
                reached = before[-1] + _STEPS[1:]
                if not (reached < group).any():
                    break
                np.minimum(group, reached, out=group)


def _sweep(framed: np.ndarray) -> None:
    """The same, step by step: what the way back was."""
    for above, here in pairwise(framed[:-1]):
        row = here[1:-1]
        np.minimum(row, np.minimum(above[:-2], above[2:]) + _DIAGONAL, out=row)
        np.minimum(row, above[1:-1] + _STRAIGHT, out=row)
        for start in np.flatnonzero(row[:-1] + _STRAIGHT < row[1:]).tolist():
            place, reached = start + 1, row[start] + _STRAIGHT
            while place < len(row) and reached < row[place]:
                row[place] = reached
                place, reached = place + 1, reached + _STRAIGHT
