"""Scenes of several objects, written twice over the same pictures: in the layout of COCO and in that of ADE20K.

Train scenes are made of train-split objects and backgrounds only, val scenes of test-split ones.

What a pixel shows is decided by weight: of all layers (the background and each object) the one that contributes most
to the pixel's colour after everything in front of it has taken its share.

- COCO: an object's mask is where its weight is at least one half, so boxes and masks cover *visible* pixels only. An
  object split in two by another one stays one annotation; ``iscrowd`` is 0 throughout.
- ADE20K: class numbers are the COCO category ids, and the background is the class after the last of them.
  0 (ignored under ``reduce_zero_label``) marks soft edges, where no layer has at least :data:`SURE` of the weight.

Crowding and remnants are dealt with when a scene is arranged (:mod:`.arrange`); should rounding leave an object below
:data:`.arrange.MIN_AREA`, its annotation is dropped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cl_vs_mim.config import SceneImages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import write_text
from cl_vs_mim.data.arrange import MIN_AREA, Scene, compose_scene
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.objects import encode_jpeg
from cl_vs_mim.data.recipe import KitRecipe
from cl_vs_mim.data.writer import Rendered

DATASET = 2  # in the seed of every image
SURE = 0.6  # weight from which a pixel's class is beyond doubt
_SUPERCATEGORY = {
    "bird": "animal",
    "hoofed-mammal": "animal",
    "other-mammal": "animal",
    "sea-animal": "animal",
    "small-creature": "animal",
    "flower": "plant",
    "fruit-vegetable": "food",
    "plant-fungus": "plant",
    "household": "artefact",
    "leisure": "artefact",
    "tool": "artefact",
    "vehicle": "artefact",
    "planet": "sky",
}

# ------------------------------------------------------------------------------------------------
# Annotations
# ------------------------------------------------------------------------------------------------


def semantic_map(weights: np.ndarray, classes: list[int]) -> np.ndarray:
    """(size, size) uint8 of class numbers; ``classes`` has one for each layer of ``weights``, background first.

    Layers of one class count together. 0 where no class is beyond doubt.
    """
    numbers = np.unique(classes)
    summed = np.stack([weights[np.asarray(classes) == number].sum(0) for number in numbers])
    labels = numbers[summed.argmax(0)]
    return np.where(summed.max(0) >= SURE, labels, 0).astype(np.uint8)


def annotate(scene: Scene, category_ids: dict[str, int]) -> list[dict[str, Any]]:
    """COCO annotations of a scene, without ids: category, tight box, area and RLE of the visible pixels."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError as error:
        raise UserError("scenes need pycocotools; install it with: pip install 'cl-vs-mim[detection]'") from error
    annotations = []
    for weight, member in zip(scene.weights[1:], scene.members, strict=True):
        visible = (weight >= 0.5).astype(np.uint8)
        area = int(visible.sum())
        if area < MIN_AREA * visible.size:
            continue
        rle = coco_mask.encode(np.asfortranarray(visible))
        annotations.append(
            {
                "category_id": category_ids[member.file.category],
                "bbox": [float(value) for value in cv2.boundingRect(visible)],
                "area": area,
                "segmentation": {"size": list(visible.shape), "counts": rle["counts"].decode("ascii")},
                "iscrowd": 0,
            }
        )
    return annotations


# ------------------------------------------------------------------------------------------------
# The data set
# ------------------------------------------------------------------------------------------------


class SceneRecipe(KitRecipe[SceneImages]):
    """Train scenes, then val scenes; see :class:`.writer.Recipe`."""

    name = "scenes"
    _KIT_SPLIT = ("train", "test")
    _COCO = ("train2017", "val2017")
    _ADE = (("training", "train"), ("validation", "val"))

    def __init__(self, kit: Kit, settings: SceneImages, seed: int) -> None:
        super().__init__(kit, settings, seed)
        names = sorted({file.category for file in kit.select("object")})
        self.category_ids = {name: number for number, name in enumerate(names, start=1)}

    @property
    def background_class(self) -> int:
        """ADE20K class of whatever is no object."""
        return len(self.category_ids) + 1

    def counts(self) -> dict[str, int]:
        return {"train": self.settings.train, "val": self.settings.val}

    def render(self, index: int) -> Rendered:
        """Scene ``index`` of the whole data set, in both layouts."""
        number = int(index >= self.settings.train)
        index -= number * self.settings.train
        rng = np.random.default_rng([self.seed, DATASET, number, index])
        split = self._KIT_SPLIT[number]
        scene = compose_scene(rng, self.pieces, self._grain, split, self.settings.image_size, self.settings.objects)
        classes = [self.background_class] + [self.category_ids[member.file.category] for member in scene.members]
        labels = semantic_map(scene.weights, classes)
        content = encode_jpeg(scene.image, self.settings.jpeg_quality)
        done, png = cv2.imencode(".png", labels)
        if not done:
            raise RuntimeError("PNG encoding failed")
        folder, short = self._ADE[number]
        name, ade = f"{index + 1:012d}.jpg", f"ADE_{short}_{index + 1:08d}"
        files = {
            f"coco/{self._COCO[number]}/{name}": content,
            f"ade20k/images/{folder}/{ade}.jpg": content,
            f"ade20k/annotations/{folder}/{ade}.png": png.tobytes(),
        }
        row = {
            "split": number,
            "id": index + 1,
            "file_name": name,
            "setting": scene.view.setting,
            "background": "+".join(scene.view.names),
            "objects": [member.file.name for member in scene.members],
            "annotations": annotate(scene, self.category_ids),
            "pixels": np.bincount(labels.ravel(), minlength=self.background_class + 1).tolist(),
        }
        return Rendered(files, row)

    def finish(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """``instances_*.json``, ``objectInfo.txt`` and ``images.csv``."""
        for number, name in enumerate(self._COCO):
            document = self._instances([row for row in rows if row["split"] == number])
            write_text(folder / "coco" / "annotations" / f"instances_{name}.json", json.dumps(document))
        write_text(folder / "ade20k" / "objectInfo.txt", self._object_info(rows))
        lines = ["path,split,setting,background,objects"]
        for row in rows:
            path = f"coco/{self._COCO[row['split']]}/{row['file_name']}"
            split = ("train", "val")[row["split"]]
            lines.append(f"{path},{split},{row['setting']},{row['background']},{' '.join(row['objects'])}")
        write_text(folder / "images.csv", "\n".join(lines) + "\n")

    def _instances(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """One COCO document."""
        size = self.settings.image_size
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for row in rows:
            images.append({"id": row["id"], "file_name": row["file_name"], "width": size, "height": size, "license": 1})
            for annotation in row["annotations"]:
                annotations.append({"id": len(annotations) + 1, "image_id": row["id"], **annotation})
        return {
            "info": {"description": "Scenes composed from the image kit", "version": "1.0", "year": 2017},
            "licenses": [{"id": 1, "name": "each part keeps its licence, see SOURCES.md of the kit", "url": ""}],
            "images": images,
            "annotations": annotations,
            "categories": [
                {"id": number, "name": name, "supercategory": _SUPERCATEGORY.get(name, "other")}
                for name, number in self.category_ids.items()
            ],
        }

    def _object_info(self, rows: list[dict[str, Any]]) -> str:
        """ADE20K's table: class, its share of all labelled pixels, and the images it occurs in."""
        pixels = np.array([row["pixels"] for row in rows])  # (images, 1 + classes)
        validation = np.array([row["split"] == 1 for row in rows])
        ratio = pixels[:, 1:].sum(0) / max(pixels[:, 1:].sum(), 1)
        lines = ["Idx\tRatio\tTrain\tVal\tName"]
        for number, name in enumerate([*self.category_ids, "background"], start=1):
            present = pixels[:, number] > 0
            counts = f"{int((present & ~validation).sum())}\t{int((present & validation).sum())}"
            lines.append(f"{number}\t{ratio[number - 1]:.4f}\t{counts}\t{name}")
        return "\n".join(lines) + "\n"
