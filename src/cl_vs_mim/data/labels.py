"""What the images of a split are called, by kind: the folder they lie in, or the category that ``images.csv`` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import read_text_table
from cl_vs_mim.data.images import ImageFolderIndex

NO_CATEGORY = "other"  # the category that collects objects of none

_TABLE = "images.csv"  # of a composed data set, beside its splits


@dataclass(frozen=True)
class ImageLabels:
    """One label for every image of an index."""

    kind: str  # class or category
    classes: tuple[str, ...]
    numbers: np.ndarray  # (M,) int64, into classes


def image_labels(
    data: Path, split: str, index: ImageFolderIndex, kind: str, classes: Sequence[str] | None = None
) -> ImageLabels:
    """The labels of all images of a split, in the order of its index.

    Args:
        data: the data set's folder.
        split: the name of the split's folder in it.
        index: the index of ``data/split``.
        kind: ``class``: the folder of an image, as in any ImageFolder. ``category``: the column of that name in
            ``data/images.csv``, coarser than the class; in the composed data sets also the folder of the held-out
            objects, which belong to no class.
        classes: number the labels as these, those of the training images; without it, the labels found, by name.

    Raises:
        UserError: there are no such labels, an image has none, or a label is not among ``classes``.
    """
    names = (
        np.array(index.classes, dtype=object)[index.labels] if kind == "class" else _column(data, split, index, kind)
    )
    found = tuple(sorted(set(names)))
    known = tuple(classes) if classes is not None else found
    if unknown := sorted(set(found) - set(known)):
        raise UserError(
            f"{index.root}: {kind} {', '.join(unknown[:3])}{' …' if len(unknown) > 3 else ''} does not occur in the "
            f"training images ({len(known)} are known); a split and its training images need the same names"
        )
    places = {name: place for place, name in enumerate(known)}
    return ImageLabels(kind, known, np.array([places[name] for name in names], dtype=np.int64))


def _column(data: Path, split: str, index: ImageFolderIndex, kind: str) -> np.ndarray:
    """(M,) strings: the column ``kind`` of the data set's table, in the order of the index."""
    path = Path(data) / _TABLE
    remedy = "set analysis.probe.labels to [class]"
    if not path.exists():
        raise UserError(f"{data} has no {_TABLE}: an ordinary ImageFolder knows classes, but no {kind}; {remedy}")
    table = read_text_table(path, ("path", kind), f"{remedy}, or build the data set again")
    by_path = dict(zip(table["path"], table[kind], strict=True))
    names = [by_path.get(f"{split}/{name}", "") for name in index.paths]
    if "" in names:
        image = f"{split}/{index.paths[names.index('')]}"
        raise UserError(f"{path} gives no {kind} for image {image}; build the data set again")
    return np.array(names, dtype=object)
