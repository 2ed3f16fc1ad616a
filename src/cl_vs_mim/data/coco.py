"""Reading COCO annotations with every check made before anything is trained: what is wrong is named by file and row.

detectron2 and pycocotools find the same faults hours later, as a KeyError, or never, as a lower AP.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.untrusted import limits, read_json, reason

_PARTS = ("images", "annotations", "categories")
_SHOWN = 5  # names in an error
_MOST = 2**53  # of any number: beyond it floating point knows no whole ones
_MARGIN = 0.1  # of a side, by which boxes and polygons may reach out of an image
_FLAT = 1e-4  # share of boxes without a size that is let pass: COCO's own training set has one or two


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
    for number, row in categories.items():
        if not (isinstance(row["name"], str) and row["name"].strip()):
            raise UserError(f"{path}: category {number} has the name {_short(row['name'])}; give it one in text")
    images = _rows(path, "images", content["images"], ("id", "file_name", "width", "height"))
    for number, row in images.items():
        _check_image(row, f"{path}: images of id {number}")
    names = Counter(row["name"] for row in categories.values())
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UserError(f"{path}: categories {_some(twice)} are there twice; results by category need their own names")
    _rows(
        path, "annotations", content["annotations"], ("id", "image_id", "category_id", "bbox", "segmentation", "area")
    )
    flat = []
    for place, row in enumerate(content["annotations"]):
        name = f"{path}: annotations[{place}] (id {row['id']})"
        _check_annotation(row, name, images, categories)
        flat += [] if min(row["bbox"][2:]) > 0 else [name]
    if len(flat) > len(content["annotations"]) * _FLAT:
        raise UserError(f"{flat[0]}: its bbox has no size ({len(flat)} in all); leave the row out, or correct the box")
    if all(row.get("iscrowd", 0) for row in content["annotations"]):
        raise UserError(f"{path}: every annotation is a crowd; there is no single object to train or to measure on")
    _check_files(path, folder, [row["file_name"] for row in images.values()])
    listed = tuple((number, categories[number]["name"]) for number in sorted(categories))
    return CocoSplit(path, folder, listed, len(images), sha256_file(path))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path, "annotation")
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; --data is a folder with annotations/instances_{{train,val}}2017.json, train2017/ "
            "and val2017/"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable as JSON ({reason(error)}); fetch or build it again") from error
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
        for key in keys:
            if key.endswith("id") and not _whole(row[key], -_MOST, _MOST):
                raise UserError(f"{path}: {part}[{place}] has the {key} {_short(row[key])}; ids are whole numbers")
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
    if not _whole(row.get("iscrowd", 0), 0, 1):
        raise UserError(f"{name} has iscrowd {_short(row['iscrowd'])}; it is 0 or 1")
    if not (_finite(row["area"]) and row["area"] >= 0):
        raise UserError(f"{name} has the area {_short(row['area'])}; it is a number of px")
    image = images[row["image_id"]]
    _check_box(row["bbox"], name, image)
    mask = row["segmentation"]
    if isinstance(mask, dict):
        _check_runs(mask, name, image)
    elif isinstance(mask, list) and any(map(_is_polygon, mask)):  # detectron2 leaves out those of too few points
        _check_polygons(mask, name, image)
    else:
        raise UserError(f"{name}: segmentation is neither a run-length mask nor polygons of three points or more")


def _check_image(row: dict[str, Any], name: str) -> None:
    """A size that an image can have, and a file below the folder of images."""
    most = limits().image_megapixels * 1_000_000
    if not (_whole(row["width"], 1, most) and _whole(row["height"], 1, most) and row["width"] * row["height"] <= most):
        raise UserError(
            f"{name}: width {_short(row['width'])} and height {_short(row['height'])} are not whole numbers of px, or "
            f"more than {limits().image_megapixels} megapixels; correct the row"
        )
    file = row["file_name"]
    inside = isinstance(file, str) and bool(file) and file.isprintable()
    if not inside or Path(file).is_absolute() or ".." in Path(file).parts:
        raise UserError(f"{name}: file_name {_short(file)} is not the name of a file in the folder of images")


def _check_box(box: Any, name: str, image: dict[str, Any]) -> None:
    """Four finite numbers, not negative, that reach into the image and not far out of it."""
    if not (isinstance(box, list) and len(box) == 4 and all(map(_finite, box)) and min(box[2:]) >= 0):
        raise UserError(f"{name}: bbox {_short(box)} is not [x, y, width, height] in px")
    x, y, width, height = box
    size = (image["width"], image["height"])
    around = _around(x, size[0]) and _around(y, size[1])
    around &= _around(x + width, size[0]) and _around(y + height, size[1])
    if not around or x >= size[0] or y >= size[1] or x + width < 0 or y + height < 0:
        raise UserError(f"{name}: bbox {_short(box)} lies outside its image of {size[0]}x{size[1]} px; correct the row")


def _check_runs(mask: dict[str, Any], name: str, image: dict[str, Any]) -> None:
    """Run lengths of the image's size, as numbers or in COCO's letters, that fill it exactly."""
    size, counts = [image["height"], image["width"]], mask.get("counts")
    if mask.get("size") != size or counts is None:
        raise UserError(
            f"{name}: its mask is of {_short(mask.get('size'))} px, but image {image['file_name']} of {size} px "
            "(height, width); encode the mask at the image's size"
        )
    pixels = size[0] * size[1]
    runs = _decoded(counts) if isinstance(counts, str) else counts
    if not (isinstance(runs, list) and len(runs) <= pixels + 1 and all(_whole(run, 0, pixels) for run in runs)):
        raise UserError(f"{name}: the counts of its mask are not runs of pixels (whole numbers); encode the mask again")
    if sum(runs) != pixels:
        raise UserError(f"{name}: the runs of its mask add up to {sum(runs)} px instead of {pixels}")


def _decoded(letters: str) -> list[int] | None:
    """Run lengths from COCO's letters (six bits each: five of a number, one that more follow), or None.

    pycocotools does the same in C, and reads on behind a text that ends in the middle of a number.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in letters:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift  # the sign
        runs.append(value + runs[-2] if len(runs) > 2 else value)  # from the fourth on, differences to the last but one
        value = shift = 0
    return None if shift else runs


def _check_polygons(mask: list[Any], name: str, image: dict[str, Any]) -> None:
    """Points that are finite and around the image: the mask library computes with them in whole numbers of 32 bits."""
    for part in mask:
        if isinstance(part, list) and _lies_around(part, image):  # quickly: COCO has forty million coordinates
            continue
        if not isinstance(part, list) or not all(map(_number, part)):
            raise UserError(f"{name}: its polygons are not lists of finite numbers; correct the row")
        ends = [(place, image["height" if place % 2 else "width"]) for place in range(len(part))]
        if not all(_around(part[place], side) for place, side in ends):
            far = next(part[place] for place, side in ends if not _around(part[place], side))
            raise UserError(
                f"{name}: a polygon has the coordinate {_short(far)}, outside its image of {image['width']}x"
                f"{image['height']} px; correct the row"
            )


def _lies_around(part: list[Any], image: dict[str, Any]) -> bool:
    """Whether it is certain, from a few sums and extremes, that nothing is wrong with the coordinates."""
    if len(part) < 2 or not set(map(type, part)) <= {int, float}:
        return False
    try:
        known = math.isfinite(sum(part))  # which it is not where one of them is not
    except OverflowError:
        return False
    xs, ys = part[::2], part[1::2]
    ends = [
        (min(xs), image["width"]),
        (max(xs), image["width"]),
        (min(ys), image["height"]),
        (max(ys), image["height"]),
    ]
    return known and all(_around(end, side) for end, side in ends)


def _is_polygon(part: Any) -> bool:
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0


def _around(value: float, side: int) -> bool:
    margin = max(1.0, _MARGIN * side)
    return -margin <= value <= side + margin


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _finite(value: Any) -> bool:
    return _number(value) and abs(value) < _MOST


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, list) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


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
