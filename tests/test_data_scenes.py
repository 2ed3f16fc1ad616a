"""Scenes: COCO and ADE20K say the same, and what they say is what is visible."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cl_vs_mim.config import SceneImages
from cl_vs_mim.data.arrange import MIN_AREA, compose_scene
from cl_vs_mim.data.compose import Grain, lay
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.pieces import Pieces
from cl_vs_mim.data.scenery import Scenery
from cl_vs_mim.data.scenes import SceneRecipe, annotate
from cl_vs_mim.data.writer import build, verify

coco_mask = pytest.importorskip("pycocotools.mask")

KIT = Path(__file__).parents[1] / "data" / "kit"
SIZE = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("data") / "scenes"
    settings = SceneImages(image_size=SIZE, train=14, val=10)
    build(SceneRecipe(Kit.open(KIT), settings, 3), target, 2, quiet=True)
    return target


def ade(folder: Path, part: str, number: int) -> np.ndarray:
    short = {"training": "train", "validation": "val"}[part]
    path = folder / "ade20k" / "annotations" / part / f"ADE_{short}_{number:08d}.png"
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


PARTS = [("train2017", "training", 14), ("val2017", "validation", 10)]


@pytest.mark.parametrize(("coco_name", "ade_name", "count"), PARTS)
def test_coco_and_ade20k_agree(folder: Path, coco_name: str, ade_name: str, count: int) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "coco" / "annotations" / f"instances_{coco_name}.json"))
    assert len(coco.getImgIds()) == count
    background = len(coco.getCatIds()) + 1
    sure = []
    for image in coco.loadImgs(coco.getImgIds()):
        picture = cv2.imread(str(folder / "coco" / coco_name / image["file_name"]))
        assert picture.shape == (SIZE, SIZE, 3) == (image["height"], image["width"], 3)
        labels = ade(folder, ade_name, image["id"])
        assert labels.dtype == np.uint8 and labels.shape == (SIZE, SIZE) and labels.max() <= background
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert 2 <= len(annotations) <= 6
        seen = np.zeros((SIZE, SIZE), int)
        for annotation in annotations:
            mask = coco.annToMask(annotation).astype(bool)
            seen += mask
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert annotation["bbox"] == box
            assert annotation["area"] == mask.sum() >= MIN_AREA * SIZE * SIZE
            assert annotation["iscrowd"] == 0
            # Where the map is sure of anything, it is of this category.
            assert set(np.unique(labels[mask])) <= {0, annotation["category_id"]}
            sure.append((labels[mask] == annotation["category_id"]).mean())
        assert seen.max() == 1  # visible pixels belong to one object
        # Outside all masks lies the background, except on soft edges.
        assert set(np.unique(labels[seen == 0])) <= {0, background} | {a["category_id"] for a in annotations}
        assert (labels[seen == 0] == background).mean() > 0.9
        assert (labels == 0).mean() < 0.12
    assert np.mean(sure) > 0.85  # thin legs and feelers are soft edges for the most part


def test_the_same_pictures_are_in_both_layouts(folder: Path) -> None:
    first = (folder / "coco" / "train2017" / "000000000003.jpg").read_bytes()
    assert first == (folder / "ade20k" / "images" / "training" / "ADE_train_00000003.jpg").read_bytes()
    assert verify(folder) == 3 * (14 + 10) + 4


def test_scenes_are_made_of_their_own_split(folder: Path) -> None:
    manifest = pd.read_csv(KIT / "manifest.csv")
    of_object = manifest[manifest["kind"] == "object"].set_index("name")["split"]
    of_ground = manifest[manifest["kind"] != "object"].set_index("name")["split"]
    for row in pd.read_csv(folder / "images.csv").itertuples():
        wanted = {"train": "train", "val": "test"}[row.split]
        assert {of_object[name] for name in row.objects.split()} == {wanted}
        assert {of_ground[name] for name in row.background.split("+")} == {wanted}
        assert len(set(row.objects.split())) == len(row.objects.split())


def test_object_info_counts_what_is_in_the_maps(folder: Path) -> None:
    table = pd.read_csv(folder / "ade20k" / "objectInfo.txt", sep="\t")
    assert list(table.columns) == ["Idx", "Ratio", "Train", "Val", "Name"]
    maps = {part: [ade(folder, part, n + 1) for n in range(count)] for _, part, count in PARTS}
    every = np.stack([m for part in maps.values() for m in part])
    for row in table.itertuples():
        assert row.Ratio == pytest.approx((every == row.Idx).sum() / (every > 0).sum(), abs=6e-5)
        assert row.Train == sum((m == row.Idx).any() for m in maps["training"])
        assert row.Val == sum((m == row.Idx).any() for m in maps["validation"])
    document = json.loads((folder / "coco" / "annotations" / "instances_train2017.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert names == {row.Idx: row.Name for row in table.itertuples() if row.Name != "background"}


def test_masks_are_the_pixels_that_show_when_each_object_is_painted_in_its_own_colour() -> None:
    """An independent account of visibility: paint flat colours by the compositor and read them back."""
    kit = Kit.open(KIT)
    pieces, grain = Pieces(kit, Scenery(kit)), Grain()
    ids = dict.fromkeys([file.category for file in kit.select("object")], 1)
    occluded = 0
    for seed in range(8):
        scene = compose_scene(np.random.default_rng(seed), pieces, grain, "train", SIZE, (4, 6))
        annotations = annotate(scene, ids)
        assert len(annotations) == len(scene.members)
        for index, annotation in enumerate(annotations):
            canvas = np.zeros((SIZE, SIZE, 3), np.float32)
            for other, member in enumerate(scene.members):
                canvas = lay(canvas, np.full_like(canvas, float(other == index)), member.alpha, None)
            mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
            clear = np.abs(canvas[..., 0] - 0.5) > 1e-4
            assert (mask == (canvas[..., 0] >= 0.5))[clear].all()
            occluded += (scene.members[index].alpha > 0.5).sum() - mask.sum() > 20
    assert occluded > 0  # some objects were partly hidden, or this test shows nothing
