"""The images of a classification task with their labels, split by split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cl_vs_mim.data.images import ImageFolderIndex, index_image_folder
from cl_vs_mim.data.labels import ImageLabels, image_labels

TRAIN, VALIDATION, HELDOUT = "train", "val", "heldout"


@dataclass(frozen=True)
class Split:
    """The images of a split and their labels, by kind."""

    name: str
    index: ImageFolderIndex
    labels: dict[str, ImageLabels]


def read_splits(data: Path, kinds: list[str]) -> tuple[Split, list[Split]]:
    """The training images, then those to be evaluated on; held-out objects, where there are any, have a category only.

    Raises:
        UserError: a split or a label is missing.
    """

    def read(name: str, kinds: list[str], known: Mapping[str, ImageLabels]) -> Split:
        index = index_image_folder(data / name)
        classes = {kind: known[kind].classes if kind in known else None for kind in kinds}
        return Split(name, index, {kind: image_labels(data, name, index, kind, classes[kind]) for kind in kinds})

    train = read(TRAIN, kinds, {})
    evaluated = [read(VALIDATION, kinds, train.labels)]
    if "category" in kinds and (data / HELDOUT).is_dir():
        evaluated.append(read(HELDOUT, ["category"], train.labels))
    return train, evaluated


def constant_guess(train: ImageLabels, targets: ImageLabels) -> float:
    """Accuracy of always naming the commonest label of the training images: what takes no feature at all."""
    return float((targets.numbers == np.bincount(train.numbers).argmax()).mean())
