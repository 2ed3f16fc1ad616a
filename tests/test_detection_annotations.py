"""Annotations that would train a wrong detector, or crash it after hours, are refused with file, row and remedy."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.coco import _check_polygons, _decoded, read_coco
from cl_vs_mim.transfer.detection.settings import Detection
from detection_scenes import SIDE, TINY, edit, tiny, write_scenes


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "coco")


def test_good_annotations_are_read(scenes: Path) -> None:
    train, val = read_coco(scenes)
    assert train.categories == ((2, "disc"), (5, "box"), (9, "bar")) == val.categories
    assert train.count == 4
    for split, year in ((train, "train2017"), (val, "val2017")):
        content = (scenes / "annotations" / f"instances_{year}.json").read_bytes()
        assert split.digest == hashlib.sha256(content).hexdigest()


def set_row(part: str, place: int, **values: Any) -> Callable[[dict], None]:
    return lambda content: content[part][place].update(values)


def drop_key(part: str, place: int, key: str) -> Callable[[dict], None]:
    return lambda content: content[part][place].pop(key) and None


def runs(counts: Any) -> Callable[[dict], None]:
    return lambda content: content["annotations"][0]["segmentation"].update(counts=counts)


BAD = {
    "unknown category": (
        set_row("annotations", 1, category_id=7),
        r"annotations\[1\] \(id 2\) has category_id 7, .*\(2, 5, 9\)",
    ),
    "unknown image": (set_row("annotations", 1, image_id=77), r"annotations\[1\] \(id 2\) has image_id 77"),
    "no annotations": (lambda content: content["annotations"].clear(), "'annotations' is empty"),
    "no images": (lambda content: content["images"].clear(), "'images' is empty"),
    "no categories": (lambda content: content.pop("categories") and None, "no list 'categories'"),
    "mask of another size": (
        lambda content: content["annotations"][0]["segmentation"].update(size=[SIDE, SIDE - 1]),
        r"annotations\[0\] \(id 1\): its mask is of \[64, 63\] px, but image 000000000001.png of \[64, 64\]",
    ),
    "runs that are too long": (
        lambda content: content["annotations"][0]["segmentation"]["counts"].append(5),
        r"annotations\[0\] \(id 1\): the runs of its mask add up to 4101 px instead of 4096",
    ),
    "no mask": (set_row("annotations", 0, segmentation=[]), "neither a run-length mask nor polygons"),
    "a polygon of two points": (set_row("annotations", 0, segmentation=[[1, 1, 2, 2]]), "polygons of three points"),
    "a key missing": (drop_key("annotations", 2, "bbox"), r"annotations\[2\] has no bbox"),
    "a box of three numbers": (set_row("annotations", 0, bbox=[1, 2, 3]), r"bbox \[1, 2, 3\] is not"),
    "a negative box": (set_row("annotations", 0, bbox=[1, 2, -3, 4]), "is not .x, y, width, height"),
    "an id twice": (set_row("annotations", 1, id=1), r"annotations\[1\] repeats id 1"),
    "a name twice": (set_row("categories", 1, name="disc"), "categories disc are there twice"),
    "a missing file": (set_row("images", 0, file_name="gone.png"), "lacks 1 of the 4 images .*gone.png"),
    "a huge polygon": (set_row("annotations", 1, segmentation=[[1e308, 0, 1, 0, 1, 1]]), "coordinate 1e.308, outside"),
    "a polygon of 400 digits": (
        set_row("annotations", 1, segmentation=[[10**400, 0.5, 1, 0, 1, 1]]),
        "coordinate 1000",
    ),
    "an infinite polygon": (
        set_row("annotations", 1, segmentation=[[float("inf"), 0, float("-inf"), 0, 1, 1]]),
        "lists of finite numbers",
    ),
    "a polygon of NaN": (
        set_row("annotations", 1, segmentation=[[float("nan"), 0, 1, 0, 1, 1]]),
        "lists of finite numbers",
    ),
    "a polygon of text": (set_row("annotations", 1, segmentation=[["1", 0, 1, 0, 1, 1]]), "lists of finite numbers"),
    "text beside a polygon": (
        set_row("annotations", 1, segmentation=[[1, 0, 1, 5, 1, 1], "x"]),
        "lists of finite numbers",
    ),
    "a polygon outside": (
        set_row("annotations", 1, segmentation=[[0, 0, 90, 0, 1, 1]]),
        "coordinate 90, outside its image",
    ),
    "runs of fractions": (runs([0.5, 4095.5]), "counts of its mask are not runs of pixels"),
    "runs of text": (runs(["a", "b"]), "counts of its mask are not runs of pixels"),
    "negative runs": (runs([-4, 4100]), "counts of its mask are not runs of pixels"),
    "runs of truth": (runs([True, 4095]), "counts of its mask are not runs of pixels"),
    "a number of runs": (runs(4096), "counts of its mask are not runs of pixels"),
    "letters without an end": (runs("``"), "counts of its mask are not runs of pixels"),
    "letters that are none": (runs("\u0000\u2603"), "counts of its mask are not runs of pixels"),
    "letters of another size": (runs("0"), "add up to 0 px instead of 4096"),
    "a box of NaN": (set_row("annotations", 0, bbox=[float("nan"), 2, 3, 4]), r"bbox \[nan, 2, 3, 4\] is not"),
    "a box of truth": (set_row("annotations", 0, bbox=[True, 2, 3, 4]), "is not .x, y, width, height"),
    "a huge box": (set_row("annotations", 0, bbox=[0, 0, 1e300, 4]), "is not .x, y, width, height"),
    "a box outside": (set_row("annotations", 0, bbox=[70, 2, 3, 4]), r"lies outside its image of 64x64 px"),
    "a box that reaches out": (set_row("annotations", 0, bbox=[2, 2, 90, 4]), r"lies outside its image of 64x64 px"),
    "a box of no size": (set_row("annotations", 0, bbox=[2, 2, 0, 4]), r"\(id 1\): its bbox has no size \(1 in all\)"),
    "an id that is a list": (set_row("annotations", 1, id=[1]), r"annotations\[1\] has the id \[1\]; ids are whole"),
    "ids of several types": (set_row("categories", 1, id="5"), r"categories\[1\] has the id '5'; ids are whole"),
    "a category_id that is a list": (
        set_row("annotations", 1, category_id=[5]),
        "has the category_id .5.; ids are whole",
    ),
    "an image_id of null": (set_row("annotations", 1, image_id=None), "has the image_id None; ids are whole"),
    "no name": (set_row("categories", 1, name=None), "category 5 has the name None"),
    "an empty name": (set_row("categories", 1, name=" "), "category 5 has the name ' '"),
    "a name that is a list": (set_row("categories", 1, name=["a"]), "category 5 has the name .'a'."),
    "a file_name of null": (set_row("images", 0, file_name=None), "file_name None is not the name of a file"),
    "a file_name that leads out": (
        set_row("images", 0, file_name="../../x.png"),
        "is not the name of a file in the folder",
    ),
    "a width of text": (set_row("images", 0, width="64"), "width '64' and height 64 are not whole numbers"),
    "a huge image": (set_row("images", 0, width=10**9), "more than 89 megapixels"),
    "a crowd of half": (set_row("annotations", 0, iscrowd=0.5), "has iscrowd 0.5; it is 0 or 1"),
    "an area of text": (set_row("annotations", 0, area="9"), "has the area '9'"),
    "crowds only": (
        lambda content: [row.update(iscrowd=1) for row in content["annotations"]] and None,
        "every annotation is a crowd",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_annotations_are_named(scenes: Path, fault: str) -> None:
    spoil, message = BAD[fault]
    content, write = edit(scenes)
    spoil(content)
    write(content)
    with pytest.raises(UserError, match=message) as caught:
        read_coco(scenes)
    assert "2017" in str(caught.value)  # the file


def test_two_splits_of_different_categories_are_refused(scenes: Path) -> None:
    content, write = edit(scenes, "val")
    content["categories"][0]["name"] = "ball"
    write(content)
    with pytest.raises(UserError, match=r"do not have the same categories: \(2, 'ball'\), \(2, 'disc'\)"):
        read_coco(scenes)


def test_files_that_are_no_annotations_are_refused(scenes: Path, tmp_path: Path) -> None:
    path = scenes / "annotations" / "instances_train2017.json"
    for text, message in (
        (b"{", "not readable as JSON"),
        (b"[]", "holds no JSON object"),
        (b"\xff\xfe", "not readable as JSON .it is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ):
        path.write_bytes(text)
        with pytest.raises(UserError, match=message):
            read_coco(scenes)
    with pytest.raises(UserError, match="does not exist; --data is a folder with annotations/"):
        read_coco(tmp_path / "nowhere")


def test_letters_are_decoded_as_pycocotools_does_it() -> None:
    from pycocotools import mask

    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (64, 64), (37, 300), (5, 2000)):
        for share in (0.0, 0.02, 0.5, 1.0):
            pixels = np.asfortranarray((generator.random((height, width)) < share).astype(np.uint8))
            letters = mask.encode(pixels)["counts"].decode()
            decoded = _decoded(letters)
            assert decoded is not None
            assert np.array_equal(np.repeat(np.arange(len(decoded)) % 2, decoded), pixels.flatten(order="F"))


def test_masks_in_letters_are_accepted(scenes: Path) -> None:
    from pycocotools import mask

    content, write = edit(scenes)
    row = content["annotations"][0]["segmentation"]
    row["counts"] = mask.frPyObjects(row, *row["size"])["counts"].decode()
    write(content)
    assert read_coco(scenes)[0].count == 4


def test_a_slip_among_very_many_boxes_passes(scenes: Path) -> None:
    """The training set of COCO itself has a box of height 0; detectron2 leaves it out."""
    content, write = edit(scenes)
    rows = content["annotations"]
    rows += [rows[1] | {"id": 1000 + number} for number in range(10_000)]
    rows[0]["bbox"] = [2, 2, 0, 4]
    write(content)
    assert read_coco(scenes)[0].count == 4


def test_pipes_are_no_annotations(scenes: Path) -> None:
    path = scenes / "annotations" / "instances_train2017.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a named pipe, not a file"):
        read_coco(scenes)


def test_a_missing_folder_of_images_is_named(scenes: Path) -> None:
    (scenes / "val2017").rename(scenes / "val")
    with pytest.raises(UserError, match=r"val2017, the folder with the images of .*does not exist"):
        read_coco(scenes)


# ------------------------------------------------------------------------------------------------
# Settings
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": None}, "global_blocks: only with a window"),
        ({"window": 6}, "64 px is not whole windows of 6 patches"),
        ({"scale_range": [2.0, 1.0]}, "scale_range: 2 exceeds 1"),
        ({"milestones": [0.9, 0.5]}, "milestones: shares of the training in rising order"),
        ({"milestones": [1.0]}, "milestones: shares of the training in rising order"),
        ({"warmup_iterations": 4}, "warmup_iterations 4 reach to the end, 4"),
        ({"accumulate": 3}, "accumulate: 3 does not divide batch_size 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny(**changes)


def test_the_published_recipe_is_valid(root: Path) -> None:
    path = root / "config" / "recipes" / "transfer" / "coco_detection.yaml"
    recipe = Detection.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert recipe.iterations * recipe.batch_size == pytest.approx(100 * 118_000)
    assert [round(share * recipe.iterations) for share in recipe.milestones] == [163889, 177546]


@pytest.mark.parametrize("name", ["smoke", "quick"])
def test_the_studies_have_a_detection(root: Path, name: str) -> None:
    detection = load_study(root / "config" / f"{name}.yaml").transfer.detection
    assert detection.image_size == 96
    assert Detection.model_validate(TINY).image_size == SIDE


def test_forty_million_coordinates_take_a_minute_and_no_more() -> None:
    generator = np.random.default_rng(0)
    parts = [generator.uniform(0, 640, 60).round(2).tolist() for _ in range(3000)]
    began = time.process_time()
    for part in parts:
        _check_polygons([part], "row", {"width": 640, "height": 640})
    assert (time.process_time() - began) * 4e7 / (60 * len(parts)) < 120  # s, of which most processors take a quarter
