"""Reading COCO annotations with every check made before anything is trained: what is wrong is named by file and row.

detectron2 and pycocotools find the same faults hours later, as a KeyError, or never, as a lower AP.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file

_PARTS = ("images", "annotations", "categories")
_SHOWN = 5  # names in an error


@dataclass(frozen=True)
class CocoSplit:
    """A checked half of a data set in COCO's layout."""

    annotations: Path
    images: Path  # folder
    categories: tuple[tuple[int, str], ...]  # id and name, by id
    count: int  # images
    digest: str  # sha256 of the annotation file


def read_coco(root: Path) -> tuple[CocoSplit, CocoSplit]:
    """``train2017`` and ``val2017`` below ``root``, checked.

    Raises:
        UserError: as :func:`check_split`; or the two do not have the same categories.
    """
    train, val = (
        check_split(root / "annotations" / f"instances_{split}2017.json", root / f"{split}2017")
        for split in ("train", "val")
    )
    if train.categories != val.categories:
        odd = sorted(set(train.categories) ^ set(val.categories))
        raise UserError(
            f"{train.annotations} and {val.annotations} do not have the same categories: {_some(odd)} "
            "in one of them only; make both from the same list"
        )
    return train, val


def check_split(path: Path, folder: Path) -> CocoSplit:
    """One annotation file and its images.

    Sizes are checked between mask and image row; the files themselves are compared with their rows when they are read.

    Raises:
        UserError: the file is missing or no JSON, lacks a part, has no image, annotation or category; a row lacks a
            key, or repeats an id; a category or an image is not in its list; a box or mask is malformed; a mask has
            another size than its image; image files are missing.
    """
    content = _load(path)
    for part in _PARTS:
        if not isinstance(content.get(part), list):
            raise UserError(f"{path} has no list {part!r}; it is not a COCO instances file")
        if not content[part]:
            raise UserError(f"{path}: {part!r} is empty; there is nothing to train or to measure on")
    categories = _rows(path, "categories", content["categories"], ("id", "name"))
    images = _rows(path, "images", content["images"], ("id", "file_name", "width", "height"))
    names = Counter(row["name"] for row in categories.values())
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UserError(f"{path}: categories {_some(twice)} are there twice; results by category need their own names")
    _rows(path, "annotations", content["annotations"], ("id", "image_id", "category_id", "bbox", "segmentation"))
    for place, row in enumerate(content["annotations"]):
        _check_annotation(row, f"{path}: annotations[{place}] (id {row['id']})", images, categories)
    if all(row.get("iscrowd", 0) for row in content["annotations"]):
        raise UserError(f"{path}: every annotation is a crowd; there is no single object to train or to measure on")
    _check_files(path, folder, [row["file_name"] for row in images.values()])
    listed = tuple((number, categories[number]["name"]) for number in sorted(categories))
    return CocoSplit(path, folder, listed, len(images), sha256_file(path))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; --data is a folder with annotations/instances_{{train,val}}2017.json, train2017/ "
            "and val2017/"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}); fetch or build it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; it is not a COCO instances file")
    return content


def _rows(path: Path, part: str, rows: list[Any], keys: Iterable[str]) -> dict[Any, dict[str, Any]]:
    """The rows by id; each has the keys, and no id comes twice."""
    found: dict[Any, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise UserError(f"{path}: {part}[{place}] has no {', '.join(missing)}; add it or leave the row out")
        if row["id"] in found:
            raise UserError(f"{path}: {part}[{place}] repeats id {row['id']}; ids must be unique")
        found[row["id"]] = row
    return found


def _check_annotation(
    row: dict[str, Any], name: str, images: dict[Any, dict[str, Any]], categories: dict[Any, dict[str, Any]]
) -> None:
    if row["category_id"] not in categories:
        raise UserError(
            f"{name} has category_id {row['category_id']}, which is not among the categories "
            f"({_some(sorted(categories))}); add the category or correct the row"
        )
    if row["image_id"] not in images:
        raise UserError(f"{name} has image_id {row['image_id']}, which is not among the images; add the image")
    box = row["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_finite, box)) and min(box[2:]) >= 0):
        raise UserError(f"{name}: bbox {box} is not [x, y, width, height] in px")
    mask, image = row["segmentation"], images[row["image_id"]]
    if isinstance(mask, dict):
        size, counts = [image["height"], image["width"]], mask.get("counts")
        if mask.get("size") != size or counts is None:
            raise UserError(
                f"{name}: its mask is of {mask.get('size')} px, but image {image['file_name']} of {size} px (height, "
                "width); encode the mask at the image's size"
            )
        if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
            raise UserError(f"{name}: the runs of its mask add up to {sum(counts)} px instead of {size[0] * size[1]}")
    elif not (isinstance(mask, list) and any(map(_is_polygon, mask))):  # detectron2 leaves out the others
        raise UserError(f"{name}: segmentation is neither a run-length mask nor polygons of three points or more")


def _is_polygon(part: Any) -> bool:
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_files(path: Path, folder: Path, names: list[str]) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}, the folder with the images of {path}, does not exist")
    with os.scandir(folder) as entries:  # one listing: asking for each of COCO's files takes minutes on a network disk
        there = {entry.name for entry in entries}
    missing = [name for name in names if name not in there and not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(names)} images of {path}: {_some(missing)}; fetch or build "
            "them again"
        )


def _some(values: list[Any], text: Callable[[Any], str] = str) -> str:
    more = f" … ({len(values)} in all)" if len(values) > _SHOWN else ""
    return ", ".join(map(text, values[:_SHOWN])) + more
