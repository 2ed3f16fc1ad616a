"""Which object an image shows: several images of one object are one sample of what images may be, not several.

``val/<identity>/<file>`` names it by the folder (of ImageNet: the class, which errs to the wide side); a name without
such a folder by what stands before its number, as ``cat/tabby_00003.jpg`` of the cue-conflict images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_NUMBER = re.compile(r"_\d+(\.\w+)?$")
_PARTS = 3  # of val/<identity>/<file>


def identities(images: Sequence[str]) -> np.ndarray:
    """(M,) integers, the same for images of one identity, numbered in the order of the images."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(_identity(image), len(numbers)) for image in images], dtype=int)


def _identity(image: str) -> str:
    folder, _, _ = image.rpartition("/")
    return folder + "/" if folder.count("/") >= _PARTS - 2 else _NUMBER.sub("", image)


def choosing(images: Sequence[str]) -> np.ndarray:
    """(M,) booleans: the images by which a depth is chosen, those of every other identity. Without images (1,) True."""
    return identities(images) % 2 == 0 if images else np.ones(1, dtype=bool)


def by_identity(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Values (S, M, ...) as (S, C, ...), one of each identity, with the same mean: its images' joint weight is kept."""
    count = int(numbers.max()) + 1
    if count == len(numbers):
        return values
    mean = values.mean(axis=1, keepdims=True)
    sums = [(values - mean)[:, numbers == number].sum(axis=1) for number in range(count)]
    return mean + np.stack(sums, axis=1) * (count / len(numbers))
