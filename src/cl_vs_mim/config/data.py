"""The data sets of a study: how many images, how large, and what may vary in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from cl_vs_mim.config.sections import Count, Fraction, Pixels, Quality, Range, Section, Seed


class ObjectImages(Section):
    """Single-object images, written as an ImageFolder whose classes are the identities of the train objects."""

    image_size: Pixels
    train_per_identity: PositiveInt
    val_per_identity: PositiveInt
    heldout_per_object: PositiveInt  # second validation set: test-split objects, labelled by category
    size: Range = (0.55, 0.94)  # longest side of the object over the image's side
    brightness: Range = (0.84, 1.16)  # gain on the object's light
    warmth: Range = (-0.06, 0.06)  # gain of red over blue
    jpeg_quality: Quality = 93

    @model_validator(mode="after")
    def _drawable(self) -> ObjectImages:
        # Each range must reach into several of the interleaved cells that keep training and held-out values apart.
        limits = {"size": (0.1, 1.2, 0.12), "brightness": (0.5, 1.7, 0.16), "warmth": (-0.25, 0.25, 0.08)}
        for key, (low, high, width) in limits.items():
            value = getattr(self, key)
            if not (low <= value[0] and value[1] <= high and value[1] - value[0] >= width):
                raise ValueError(f"{key}: {list(value)} should lie in [{low}, {high}] and span at least {width}")
        return self


class SceneImages(Section):
    """Scenes of several objects, written as COCO and as ADE20K."""

    image_size: Pixels
    train: PositiveInt
    val: PositiveInt
    objects: tuple[PositiveInt, PositiveInt] = (2, 6)  # fewest and most objects in a scene
    jpeg_quality: Quality = 93

    @model_validator(mode="after")
    def _ordered(self) -> SceneImages:
        if self.objects[0] > self.objects[1]:
            raise ValueError(f"objects: {list(self.objects)} should be [fewest, most]")
        return self


class CueConflictImages(Section):
    """Images whose shape is of one category and whose texture is of another, or of a material."""

    image_size: Pixels
    images: PositiveInt
    material_fraction: Fraction = 0.25  # share filled with a material instead of another category's interior
    jpeg_quality: Quality = 93


class KitData(Section):
    """Data sets composed from the embedded cut-outs on the user's machine."""

    kit: Path = Path("data/kit")
    seed: Seed = 0
    objects: ObjectImages
    scenes: SceneImages
    cue_conflict: CueConflictImages


class FolderData(Section):
    """Data sets that lie on the user's disk and are read where they are: ImageNet-1K, COCO 2017, ADE20K."""

    objects: Path  # ImageFolder with train/ and val/
    coco: Path  # annotations/instances_{train,val}2017.json, train2017/, val2017/
    ade20k: Path  # images/, annotations/, objectInfo….txt
    stylized: Path  # ImageFolder of stylised validation images, classes as in objects
    counts: dict[str, Count] = Field(default_factory=dict)  # images of a part (see PARTS), where they are known
    checksums: dict[str, str] = Field(default_factory=dict)  # file -> published md5 or sha256 in hex

    @model_validator(mode="after")
    def _parts_exist(self) -> FolderData:
        if unknown := sorted(set(self.counts) - set(PARTS)):
            raise ValueError(f"counts: {', '.join(unknown)} is no part of a data set; known: {', '.join(PARTS)}")
        lengths = {len(digest) for digest in self.checksums.values()}
        if not lengths <= {_MD5, _SHA256}:
            raise ValueError("checksums: an md5 has 32 hexadecimal digits, a sha256 64")
        return self


PARTS = (
    *("objects/train", "objects/val", "coco/train2017", "coco/val2017", "ade20k/training", "ade20k/validation"),
    "stylized",
)
_MD5, _SHA256 = 32, 64


def _kind(value: object) -> str:
    folders = isinstance(value, FolderData) or (isinstance(value, dict) and "coco" in value)
    return "<on disk>" if folders else "<composed>"  # no keys of the YAML: error messages leave tags out


Data = Annotated[
    Annotated[KitData, Tag("<composed>")] | Annotated[FolderData, Tag("<on disk>")],
    Discriminator(_kind),
]
