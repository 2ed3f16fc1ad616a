"""The study's YAML as typed, validated data. Nothing runs before the whole file has been checked.

Every key is known or refused by name, with the nearest valid one; every value has a unit in its comment here and
a range that is checked. ``config/<study>.yaml`` is complete in itself: studies are never merged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from cl_vs_mim.artifacts import sha256_json
from cl_vs_mim.errors import UserError
from cl_vs_mim.spec import EncoderSpec
from cl_vs_mim.validation import UniqueKeyLoader, describe, nearest

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Quality = Annotated[int, Field(ge=50, le=100)]  # of JPEG
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Range = tuple[float, float]


class Section(BaseModel):
    """A part of the YAML: frozen, and with no key that is not declared here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def digest(self) -> str:
        """Hex sha256 of the section with every default written out."""
        return sha256_json(self.model_dump(mode="json"))


# ------------------------------------------------------------------------------------------------
# Data
# ------------------------------------------------------------------------------------------------


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


# ------------------------------------------------------------------------------------------------
# Models
# ------------------------------------------------------------------------------------------------


class Architecture(Section):
    """An encoder; the field names are those of :class:`cl_vs_mim.spec.EncoderSpec`."""

    label: str  # as written in figures, e.g. "ViT-Ti/8"
    family: Literal["vit", "beit"]
    image_size: PositiveInt  # px
    patch_size: PositiveInt  # px
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    mlp_ratio: PositiveFloat = 4.0
    positions: Literal["sincos", "learned", "relative"]
    layer_scale: PositiveFloat | None = None
    layer_norm_eps: PositiveFloat = 1e-6

    @model_validator(mode="after")
    def _consistent(self) -> Architecture:
        self.spec()
        return self

    def spec(self, drop_path: float = 0.0) -> EncoderSpec:
        """The encoder's specification; raises ``ValueError`` where the fields contradict each other."""
        return EncoderSpec(drop_path=drop_path, **self.model_dump(exclude={"label"}))


class Blur(Section):
    """Gaussian blur of one view."""

    probability: Fraction
    sigma: Range = (0.1, 2.0)  # px at the reference size of 224 px; scaled with the image


class View(Section):
    """How one augmented view is drawn. Strengths as in torchvision's transforms of the same names."""

    crop_scale: Range  # area fraction of RandomResizedCrop
    crop_ratio: Range = (3 / 4, 4 / 3)  # aspect ratio, width over height
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"  # of the resized crop
    flip: Fraction = 0.5
    jitter_probability: Fraction = 0.0
    brightness: NonNegative = 0.0
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    grayscale: Fraction = 0.0
    blur: Blur | None = None
    solarize: Fraction = 0.0


class MoCoV3Objective(Section):
    """MoCo v3 (Chen et al., arXiv 2104.02057): symmetrised InfoNCE against a momentum encoder."""

    method: Literal["moco_v3"]
    temperature: PositiveFloat
    momentum: Fraction  # of the momentum encoder at the first step; rises to 1 on a half cosine
    projector_hidden: PositiveInt
    output_dim: PositiveInt
    freeze_patch_projection: bool = True
    views: tuple[View, View]


class SimMIMObjective(Section):
    """SimMIM (Xie et al., arXiv 2111.09886): masked L1 regression of pixels by a one-layer head."""

    method: Literal["simmim"]
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]
    mask_unit: PositiveInt  # patches along a side of one masked square (the original: 32 px at patch 16 = 2)
    views: tuple[View]


Objective = Annotated[MoCoV3Objective | SimMIMObjective, Field(discriminator="method")]


class Training(Section):
    """Optimisation: AdamW, linear warm-up, then the schedule."""

    epochs: PositiveInt
    warmup_epochs: NonNegative
    batch_size: PositiveInt  # global
    base_lr: PositiveFloat
    lr_batch: PositiveInt  # the rule: lr = base_lr * batch_size / lr_batch
    min_lr: NonNegative = 0.0
    weight_decay: NonNegative
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    clip_norm: PositiveFloat | None = None
    drop_path: Fraction = 0.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16 on a GPU, float32 on a CPU
    checkpoint_steps: PositiveInt  # a kill loses at most this many steps
    log_steps: PositiveInt

    @model_validator(mode="after")
    def _warmup_fits(self) -> Training:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")
        return self


class Model(Section):
    """An encoder pre-trained by one objective, once per seed."""

    label: str  # as written in figures, e.g. "MoCo v3"
    paradigm: Literal["cl", "mim"]  # decides colour and marker
    architecture: Name
    seeds: Annotated[list[Count], Field(min_length=1)]
    objective: Objective
    training: Training
    choices: str = ""  # what differs from the published recipe, and why


# ------------------------------------------------------------------------------------------------
# Analysis and figures
# ------------------------------------------------------------------------------------------------


class Analysis(Section):
    """What the trained and untrained encoders are measured on."""

    images: PositiveInt  # of the validation set, spread evenly over its classes
    seed: int = 0  # of the selection
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # centre crop (ImageNet: 0.875; composed images: 1)
    batch_size: PositiveInt
    control_seeds: Annotated[list[Count], Field(min_length=1)]  # of the untrained encoder of each architecture


class Bootstrap(Section):
    """Percentile bootstrap over images."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resamples: PositiveInt = 2000
    seed: int = 0


class AttentionMapFigure(Section):
    """Figure 2. UNKNOWN in the paper: block, head, image; these are our choices."""

    image: Count  # index into the analysed images
    block: int  # 1 … L, or negative from the end (-2 = block L-1)
    head: Count  # drawn beside the mean over heads
    queries: Literal["object_background"] | tuple[tuple[Count, Count], tuple[Count, Count]] = "object_background"
    # object_background: the patch deepest inside the object and the patch farthest from it (needs images.csv of the
    # composer); or two patches as [row, column]


class Figures(Section):
    """Choices that only concern drawing."""

    bootstrap: Bootstrap
    attention_maps: AttentionMapFigure


class Compute(Section):
    """How many cores one job takes; Snakemake runs as many jobs side by side as fit.

    Trained weights are bit for bit those of the same number of training threads.
    """

    compose_workers: PositiveInt = 2
    training_threads: PositiveInt = 1
    analysis_threads: PositiveInt = 1


class Expectation(Section):
    """Stated in the head of the YAML: what a run costs and what it can and cannot show."""

    minutes: PositiveFloat  # for figures/fig3.pdf after the set-up
    hardware: str
    result: str


class Study(Section):
    """One scale at which the paper is replicated."""

    study: Name
    title: str
    reduced: bool  # figures of a reduced study say so
    expect: Expectation
    compute: Compute
    data: KitData
    architectures: dict[Name, Architecture]
    models: dict[Name, Model]
    analysis: Analysis
    figures: Figures

    @model_validator(mode="after")
    def _references_exist(self) -> Study:
        for name, model in self.models.items():
            if model.architecture not in self.architectures:
                raise ValueError(
                    f"models.{name}.architecture: {model.architecture!r} is not among the architectures"
                    f"{nearest(model.architecture, self.architectures)}"
                )
            architecture = self.architectures[model.architecture]
            unit = getattr(model.objective, "mask_unit", 1)
            if architecture.spec().grid % unit:
                raise ValueError(
                    f"models.{name}.objective.mask_unit: {unit} patches do not tile the "
                    f"{architecture.spec().grid}x{architecture.spec().grid} grid of {model.architecture!r}"
                )
        for name, architecture in self.architectures.items():
            depth, block = architecture.depth, self.figures.attention_maps.block
            if not (1 <= block <= depth or -depth <= block <= -1):
                raise ValueError(f"figures.attention_maps.block: {block} is not a block of {name!r} (1 … {depth})")
            if self.figures.attention_maps.head >= architecture.heads:
                raise ValueError(
                    f"figures.attention_maps.head: {self.figures.attention_maps.head} is not a head of {name!r} "
                    f"(0 … {architecture.heads - 1})"
                )
        if self.figures.attention_maps.image >= self.analysis.images:
            raise ValueError("figures.attention_maps.image: must be smaller than analysis.images")
        return self

    def controls(self) -> dict[str, str]:
        """Names of the untrained encoders, ``untrained_<architecture>``, to the architecture of each."""
        used = dict.fromkeys(model.architecture for model in self.models.values())
        return {f"untrained_{name}": name for name in used}


# ------------------------------------------------------------------------------------------------
# Loading
# ------------------------------------------------------------------------------------------------


def load_study(path: Path) -> Study:
    """Read and validate ``config/<study>.yaml``.

    Raises:
        UserError: the file is missing, is not YAML, or has an unknown key (named, with the nearest valid one) or a
            value out of range. All problems of the file are listed at once.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise UserError(f"config {path} does not exist; studies at hand: {known}") from error
    except yaml.YAMLError as error:
        raise UserError(f"config {path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UserError(f"config {path} should be a mapping of keys to values")
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(f"  {describe(detail, raw, Study)}" for detail in error.errors())
        raise UserError(f"config {path} is not valid:\n{problems}") from error
    if study.study != path.stem:
        raise UserError(f"config {path}: study is {study.study!r}, but the file is named {path.stem!r}")
    return study
