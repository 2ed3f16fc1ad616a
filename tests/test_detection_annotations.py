"""Annotations that would train a wrong detector, or crash it after hours, are refused with file, row and remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.coco import read_coco
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
    for text, message in (("{", "not readable as JSON"), ("[]", "holds no JSON object")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_coco(scenes)
    with pytest.raises(UserError, match="does not exist; --data is a folder with annotations/"):
        read_coco(tmp_path / "nowhere")


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


@pytest.mark.parametrize("name", ["smoke", "demo"])
def test_the_studies_have_a_detection(root: Path, name: str) -> None:
    detection = load_study(root / "config" / f"{name}.yaml").transfer.detection
    assert detection.image_size == 96
    assert Detection.model_validate(TINY).image_size == SIDE
