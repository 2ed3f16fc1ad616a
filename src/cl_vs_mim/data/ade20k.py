"""A folder laid out as ADE20K: checked as a whole before anything is trained on it.

``images/<split>/x.jpg`` and ``annotations/<split>/x.png``; a pixel of the annotation is 0 (no label) or 1 … K, the
rows of ``objectInfo*.txt``.
"""

from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.pictures import open_rgb, opened, upright_size
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.untrusted import parsing, read_text

TRAINING, VALIDATION = "training", "validation"
IGNORED = 255  # what a pixel without a label is called after the classes have moved down by one, as in mmseg


@dataclass(frozen=True)
class SceneSplit:
    """Images with a label for every pixel."""

    root: Path
    name: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def read_classes(root: Path) -> tuple[str, ...]:
    """Names of the classes 1 … K, from ``objectInfo*.txt`` (tabs; the columns Idx and Name).

    Raises:
        UserError: there is no such table, or its rows are not numbered 1 … K.
    """
    found = sorted(root.glob("objectInfo*.txt"))
    if not found:
        raise UserError(f"{root} has no objectInfo….txt, which names the classes; is it a folder laid out as ADE20K?")
    with parsing(found[0], "table", "restore it"):
        rows = list(csv.DictReader(io.StringIO(read_text(found[0], "table"), newline=""), delimiter="\t"))
    try:
        numbers = [int(row["Idx"]) for row in rows]
        names = [row["Name"].split(",")[0].strip() for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{found[0]}: columns Idx and Name separated by tabs are needed ({error!r})") from error
    if numbers != list(range(1, len(rows) + 1)):
        raise UserError(f"{found[0]}: Idx should count 1 … {len(rows)}; row {_first_wrong(numbers)} does not")
    return tuple(names)


def _first_wrong(numbers: list[int]) -> int:
    return next(place for place, number in enumerate(numbers, start=1) if place != number)


def read_split(root: Path, name: str, workers: int = 2) -> SceneSplit:
    """List and check a split: every image has an annotation of its size with known labels, and not all of them empty.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    root = Path(root)
    classes = read_classes(root)
    folder = root / "images" / name
    images = tuple(sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")))
    if not images:
        raise UserError(f"{folder} holds no images; is {root} a folder laid out as ADE20K?")
    masks = tuple(root / "annotations" / name / f"{path.stem}.png" for path in images)
    if missing := [path for path in masks if not path.is_file()]:
        raise UserError(
            f"{len(missing)} of {len(images)} annotations are missing, the first {missing[0]}; restore them"
        )
    stems = {path.stem for path in images}
    if orphans := sorted(p for p in (root / "annotations" / name).glob("*.png") if p.stem not in stems):
        raise UserError(f"{orphans[0]} has no image in {folder}; restore it or remove the annotation")

    def labelled(pair: tuple[Path, Path]) -> bool:
        image, mask = pair
        labels = open_mask(mask)
        size = upright_size(image)
        if size != labels.shape[::-1]:
            raise UserError(
                f"{mask} is {labels.shape[1]}x{labels.shape[0]} px, but its image {image.name} {size[0]}x{size[1]}; "
                "restore it"
            )
        if labels.max() > len(classes):
            raise UserError(f"{mask} has label {labels.max()}, but {root} names {len(classes)} classes")
        return bool(labels.any())

    with ThreadPoolExecutor(workers) as pool:
        checked = pool.map(labelled, zip(images, masks, strict=True))
        filled = list(progress(checked, total=len(images), desc=f"check {name}", unit="image"))
    if not any(filled):
        raise UserError(f"{root / 'annotations' / name}: no pixel of any annotation has a label; restore the files")
    return SceneSplit(root, name, images, masks, classes)


def open_mask(path: Path) -> np.ndarray:
    """Labels (H, W) uint8, 0 for none.

    Raises:
        UserError: the file is missing, unreadable, or in colour.
    """
    with opened(path, "annotation", "restore it") as image:
        mode, labels = image.mode, np.asarray(image)
    if mode not in ("L", "P") or labels.ndim != 2:
        raise UserError(f"annotation {path} has mode {mode}; one byte a pixel (L or P) is needed")
    return labels


def open_pair(split: SceneSplit, position: int) -> tuple[Image.Image, np.ndarray]:
    """An image, and its labels (H, W) uint8 counted from 0, :data:`IGNORED` where there is none."""
    labels = open_mask(split.masks[position])
    return open_rgb(split.images[position]), (labels - 1).astype(np.uint8)  # 0 - 1 is 255
