"""The data sets of a study: how many images, how large, and what may vary in them."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt, model_validator

from cl_vs_mim.config.sections import Fraction, Quality, Range, Section


class ObjectImages(Section):
    """Single-object images, written as an ImageFolder whose classes are the identities of the train objects."""

    image_size: PositiveInt  # px
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

    image_size: PositiveInt  # px
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

    image_size: PositiveInt  # px
    images: PositiveInt
    material_fraction: Fraction = 0.25  # share filled with a material instead of another category's interior
    jpeg_quality: Quality = 93


class KitData(Section):
    """Data sets composed from the embedded cut-outs on the user's machine."""

    kit: Path = Path("data/kit")
    seed: int = 0
    objects: ObjectImages
    scenes: SceneImages
    cue_conflict: CueConflictImages
