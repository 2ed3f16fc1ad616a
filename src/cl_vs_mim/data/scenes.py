"""Scenes of several objects, written twice over the same pictures: in the layout of COCO and in that of ADE20K.

Train scenes are made of train-split objects and backgrounds only, val scenes of test-split ones.

What a pixel shows is decided by weight: of all layers (the background and each object) the one that contributes most
to the pixel's colour after everything in front of it has taken its share.

- COCO: an object's mask is where its weight is at least one half, so boxes and masks cover *visible* pixels only. An
  object split in two by another one stays one annotation; ``iscrowd`` is 0 throughout.
- ADE20K: class numbers are the COCO category ids, and the background is the class after the last of them.
  0 (ignored under ``reduce_zero_label``) marks soft edges, where no layer has at least :data:`SURE` of the weight.

Crowding: a place is only accepted if every object so far keeps at least :data:`MIN_VISIBLE` of its opaque pixels and
:data:`MIN_AREA` of the image; an object that finds no place in :data:`TRIES` attempts is left out (at least the
fewest allowed are always placed, by drawing the scene again). So no remnants arise; should rounding leave one below
:data:`MIN_AREA`, its annotation is dropped.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cl_vs_mim.artifacts import write_text
from cl_vs_mim.config import SceneImages
from cl_vs_mim.data.compose import Grain, Light, Pose, ambience, depth_of_field, extent, harmonise, lay, warp
from cl_vs_mim.data.kit import Kit, KitFile
from cl_vs_mim.data.objects import encode_jpeg, ground, match_sharpness, place, tilt_limit
from cl_vs_mim.data.pieces import MAX_ENLARGEMENT, Pieces
from cl_vs_mim.data.scenery import GROUNDED, Scenery, draw_rotation
from cl_vs_mim.data.views import View, draw_view
from cl_vs_mim.data.writer import Rendered
from cl_vs_mim.errors import UserError

DATASET = 2  # in the seed of every image
MIN_VISIBLE = 0.65  # of an object's opaque pixels
_FREE = 0.9  # the same in space, where planets do not stand one before the other
MIN_AREA = 0.003  # of the image's area
SURE = 0.6  # weight from which a pixel's class is beyond doubt
TRIES = 20
_DRAWS = 300  # of a scene, before giving up
_SCALE_POWER = 0.5  # true lengths are drawn together: 1 m beside 4 m appears as 1 beside 4 ** 0.5
_SIZES = (0.13, 0.6)  # longest side of an object over the image's side
_WIDE = ("land", "road", "sky", "space", "water", "underwater")  # settings where near and far go together
_KINDRED = 4.0  # largest ratio of true lengths where things are seen from near by
_COMPANY = {  # categories that are seen together; anything else only joins when a scene would stay too small
    "tool": {"tool", "household"},
    "household": {"household", "tool", "leisure", "fruit-vegetable"},
    "leisure": {"leisure", "household", "plant-fungus"},
    "fruit-vegetable": {"fruit-vegetable", "sea-animal", "household", "flower"},
    "flower": {"flower", "fruit-vegetable", "small-creature", "plant-fungus", "bird"},
    "small-creature": {"small-creature", "flower", "plant-fungus", "bird", "other-mammal"},
    "sea-animal": {"sea-animal", "fruit-vegetable", "bird"},
    "plant-fungus": {"plant-fungus", "small-creature", "flower", "hoofed-mammal", "other-mammal", "bird"},
    "bird": {"bird", "hoofed-mammal", "other-mammal", "plant-fungus", "small-creature"},
    "hoofed-mammal": {"hoofed-mammal", "other-mammal", "bird", "plant-fungus"},
    "other-mammal": {"other-mammal", "hoofed-mammal", "bird", "plant-fungus", "small-creature"},
    "vehicle": {"vehicle", "other", "plant-fungus", "bird", "household"},
    "planet": {"planet", "other"},
    "other": {"other", "planet", "vehicle", "plant-fungus", "bird"},
}
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


@dataclass
class Member:
    """One object of a scene."""

    file: KitFile
    pose: Pose
    flies: bool
    depth: float  # larger = nearer to the camera
    colour: np.ndarray  # (size, size, 3) uint8
    alpha: np.ndarray  # (size, size) float32


@dataclass(frozen=True)
class Scene:
    """A composed scene: picture (size, size, 3) uint8 BGR, and weights (1 + objects, size, size), background first."""

    image: np.ndarray
    weights: np.ndarray
    members: list[Member]
    view: View


# ------------------------------------------------------------------------------------------------
# Casting and placing
# ------------------------------------------------------------------------------------------------


def compose_scene(
    rng: np.random.Generator, pieces: Pieces, grain: Grain, split: str, size: int, count: tuple[int, int]
) -> Scene:
    """A scene of ``count`` (fewest, most) objects of one kit split (``train`` or ``test``).

    Raises:
        UserError: the fewest never found a place together.
    """
    for _ in range(_DRAWS):
        number = int(rng.integers(count[0], count[1] + 1))
        view, cast = _cast(rng, pieces, split, size, number, count[0])
        members = _place_all(rng, pieces, view, cast)
        if len(members) >= count[0]:
            return _paint(rng, pieces, grain, view, members)
    raise UserError(f"scenes.objects: {count[0]} objects do not fit into a scene of {size} px; ask for fewer")


def _cast(
    rng: np.random.Generator, pieces: Pieces, split: str, size: int, number: int, fewest: int
) -> tuple[View, list[tuple[KitFile, bool]]]:
    """A view and up to ``number`` different objects that belong into it, each with whether it flies there."""
    scenery = pieces.scenery
    by_category: dict[str, list[KitFile]] = {}
    for file in pieces.kit.select("object", split):
        by_category.setdefault(file.category, []).append(file)
    first = _pick(rng, _pick(rng, list(by_category.values())))
    setting = _pick(rng, scenery.settings_of(first.name, split))
    if setting == "sky":  # things that fly are company for things on the ground
        setting = _pick(rng, [s for s in ("land", "road", "sky") if scenery.offers(split, s)])
    length = scenery.placements[first.name].length_cm
    view = draw_view(rng, pieces, split, setting, size, length, pieces.cutout(first).mean)
    welcome = {"land": ("land", "road"), "road": ("land", "road")}.get(setting, (setting,))

    company = _COMPANY.get(first.category, set(by_category))
    order = _shuffled_by_category(rng, by_category)
    order.sort(key=lambda file: file.category not in company)  # stable: company first, in its random order
    cast: list[tuple[KitFile, bool]] = [(first, _flies(scenery, first, view, welcome))]
    for file in order:
        if len(cast) == number or (len(cast) >= fewest and file.category not in company):
            break
        placement = scenery.placements[file.name]
        stands = any(s in placement.settings for s in welcome)
        flies = _flies(scenery, file, view, welcome)
        alike = setting in _WIDE or 1 / _KINDRED <= placement.length_cm / length <= _KINDRED
        if (stands or flies) and alike and file is not first:
            cast.append((file, flies))
    return view, cast


def _flies(scenery: Scenery, file: KitFile, view: View, welcome: tuple[str, ...]) -> bool:
    """Whether ``file`` is in the air in this view: it cannot stand here, and there is a sky for it."""
    settings = scenery.placements[file.name].settings
    here = view.setting in ("land", "road", "water", "sky") and view.sky >= 0.3
    return here and "sky" in settings and not any(setting in settings for setting in welcome)


def _pick(rng: np.random.Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _shuffled_by_category(rng: np.random.Generator, by_category: dict[str, list[KitFile]]) -> list[KitFile]:
    """All files in random order, the categories taking turns so that large ones do not crowd out small ones."""
    turns = []
    for files in by_category.values():
        order = rng.permutation(len(files))
        turns += [(rank + rng.random(), files[i]) for rank, i in enumerate(order)]
    return [file for _, file in sorted(turns, key=lambda turn: turn[0])]


def _place_all(rng: np.random.Generator, pieces: Pieces, view: View, cast: list[tuple[KitFile, bool]]) -> list[Member]:
    """Find a place for each object in turn; those without one are left out. Sorted from far to near."""
    lengths = [pieces.scenery.placements[file.name].length_cm for file, _ in cast]
    middle = math.exp(sum(map(math.log, lengths)) / len(lengths))
    base = 0.66 / math.sqrt(max(len(cast), 2))
    share = _FREE if view.setting == "space" else MIN_VISIBLE
    members: list[Member] = []
    for (file, flies), length in zip(cast, lengths, strict=True):
        relative = base * (length / middle) ** _SCALE_POWER * (0.7 if flies else 1.0)
        for _ in range(TRIES):
            member = _try(rng, pieces, view, file, flies, relative)
            if member is not None and _uncrowded([*members, member], share):
                members.append(member)
                break
    return sorted(members, key=lambda member: member.depth)


def _try(
    rng: np.random.Generator, pieces: Pieces, view: View, file: KitFile, flies: bool, relative: float
) -> Member | None:
    """One attempt at a pose for ``file``, or None if it does not fit the frame."""
    size = view.size
    cutout, placement = pieces.cutout(file), pieces.scenery.placements[file.name]
    here = View(view.image, "sky", view.names, view.feet, view.sky, False) if flies else view
    rotation = draw_rotation(rng, bool(rng.integers(2)), tilt_limit(placement, here))
    mirror = bool(placement.mirror and rng.random() < 0.5)
    grounded = here.setting in GROUNDED
    nearness = float(rng.random())  # 0 = as far away as the ground goes, 1 = nearest
    fraction = relative * rng.uniform(0.85, 1.15) * ((0.65 + 0.5 * nearness) if grounded else 1.0)
    fraction = min(max(fraction, _SIZES[0]), _SIZES[1], MAX_ENLARGEMENT * cutout.longest / size)
    scale = fraction * size / cutout.longest
    box = extent(cutout, scale, rotation, mirror)
    if max(box[2] - box[0], box[3] - box[1]) > 0.96 * size:
        return None
    x, y = place(rng, here, box)
    if grounded:
        low, high = view.feet[0] * size, view.feet[1] * size
        y = max(low + nearness * (high - low) - box[3], 0.02 * size - box[1])
    pose = Pose(scale, rotation, mirror, x, y)
    colour, alpha = warp(cutout, pose, size)
    rests = grounded or (placement.upright and not flies)  # its base line says how near it is
    depth = y + box[3] if rests else (-1.0 if flies else float(rng.random()))
    return Member(file, pose, flies, depth, colour, alpha)


def _uncrowded(members: list[Member], share: float) -> bool:
    """Whether at least ``share`` of every object's opaque pixels remains visible, and enough pixels in all."""
    front = np.zeros_like(members[0].alpha, bool)
    for member in sorted(members, key=lambda member: member.depth, reverse=True):
        opaque = member.alpha > 0.5
        visible = int((opaque & ~front).sum())
        if visible < max(share * opaque.sum(), 1.15 * MIN_AREA * opaque.size):
            return False
        front |= opaque
    return True


# ------------------------------------------------------------------------------------------------
# Painting
# ------------------------------------------------------------------------------------------------


def _paint(rng: np.random.Generator, pieces: Pieces, grain: Grain, view: View, members: list[Member]) -> Scene:
    """Far to near, all under one light."""
    size = view.size
    light = Light(
        brightness=float(rng.uniform(0.88, 1.12)),
        warmth=float(rng.uniform(-0.05, 0.05)),
        angle=float(rng.uniform(20, 160)),
        relief=float(rng.uniform(0.0, 0.12)),
    )
    shadow = float(rng.uniform(0.35, 0.65))
    image = view.image
    if view.setting in ("land", "road"):
        standing = [member.depth for member in members if not member.flies]
        focus = min(standing) if standing else view.feet[0] * size
        image = depth_of_field(image, focus, 0.006 * size * float(rng.uniform(0.1, 0.8)))
    backdrop = View(image, view.setting, view.names, view.feet, view.sky, view.flat)
    for member in members:
        cutout, placement = pieces.cutout(member.file), pieces.scenery.placements[member.file.name]
        left, top, right, bottom = extent(cutout, member.pose.scale, member.pose.rotation, member.pose.mirror)
        x, y = member.pose.x, member.pose.y
        box = np.array([x + left, y + top, x + right, y + bottom])
        surroundings = ambience(backdrop, x, y, max(right - left, bottom - top) / 2)
        lit = harmonise(member.colour, cutout, light, surroundings, view.setting, box)
        lit = match_sharpness(lit, backdrop.image, member.alpha)
        shade = None
        if not member.flies:
            image, shade = ground(image, lit, member.alpha, box, view, placement.upright, light, shadow)
        image = lay(image, lit, member.alpha, shade)
    finished = grain.develop(image, rng, float(rng.uniform(0, 0.4)), float(rng.uniform(0.5, 2.5)))
    return Scene(finished, _weights([member.alpha for member in members]), members, view)


def _weights(alphas: list[np.ndarray]) -> np.ndarray:
    """Share of each layer in each pixel, (1 + objects, size, size), background first; sums to 1."""
    remaining = np.ones_like(alphas[0])
    shares = []
    for alpha in reversed(alphas):
        shares.append(alpha * remaining)
        remaining = remaining * (1 - alpha)
    return np.stack([remaining, *reversed(shares)])


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


class SceneRecipe:
    """Train scenes, then val scenes; see :class:`.writer.Recipe`."""

    name = "scenes"
    _KIT_SPLIT = ("train", "test")
    _COCO = ("train2017", "val2017")
    _ADE = (("training", "train"), ("validation", "val"))

    def __init__(self, kit: Kit, settings: SceneImages, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.kit = kit
        self.pieces = Pieces(kit, Scenery(kit))
        names = sorted({file.category for file in kit.select("object")})
        self.category_ids = {name: number for number, name in enumerate(names, start=1)}

    @property
    def background_class(self) -> int:
        """ADE20K class of whatever is no object."""
        return len(self.category_ids) + 1

    @cached_property
    def _grain(self) -> Grain:
        return Grain()

    def __len__(self) -> int:
        return self.settings.train + self.settings.val

    def parameters(self) -> dict[str, Any]:
        """What decides the content."""
        return {
            "seed": self.seed,
            "kit_manifest_sha256": self.kit.manifest_sha256,
            "kit_tables_sha256": self.pieces.scenery.sha256,
            "settings": self.settings.model_dump(mode="json"),
            "counts": {"train": self.settings.train, "val": self.settings.val},
        }

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
        images, annotations = [], []
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_grain"}
