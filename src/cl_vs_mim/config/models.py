"""Encoders and how they are pre-trained: architecture, augmented views, objective, optimisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cl_vs_mim.config.sections import Count, Fraction, Name, NonNegative, Range, Section
from cl_vs_mim.encoder.spec import EncoderSpec


class Architecture(Section):
    """An encoder; the field names are those of :class:`cl_vs_mim.encoder.spec.EncoderSpec`."""

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


class RandAugment(Section):
    """RandAugment (Cubuk et al., arXiv 1909.13719), torchvision's, image by image."""

    operations: PositiveInt = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class View(Section):
    """How one augmented view is drawn. Strengths as in torchvision's transforms of the same names."""

    size: PositiveInt | None = None  # px; the encoder's image size by default (DINO's small crops differ)
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
    rand_augment: RandAugment | None = None


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


class MAEObjective(Section):
    """MAE (He et al., arXiv 2111.06377): squared error on hidden patches, by a decoder behind the encoder."""

    method: Literal["mae"]
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]  # of the patches, one by one (the original: 0.75)
    norm_pix: bool = True  # targets with mean 0 and variance 1 in each patch
    decoder_width: PositiveInt  # the original: 512
    decoder_depth: PositiveInt  # the original: 8
    decoder_heads: PositiveInt  # the original: 16
    views: tuple[View]

    @model_validator(mode="after")
    def _heads_divide(self) -> MAEObjective:
        if self.decoder_width % self.decoder_heads or self.decoder_width % 4:
            raise ValueError(
                f"decoder_width {self.decoder_width} is not a multiple of decoder_heads {self.decoder_heads} and of 4"
            )
        return self


class DINOObjective(Section):
    """DINO (Caron et al., arXiv 2104.14294): a student matches the prototypes of its moving average on other crops."""

    method: Literal["dino"]
    student_temperature: PositiveFloat = 0.1
    teacher_temperature_start: PositiveFloat = 0.04
    teacher_temperature: PositiveFloat  # after the warm-up (the original: 0.04 to 0.07)
    teacher_warmup: Fraction = 0.0  # share of training over which it rises
    center_momentum: Fraction = 0.9
    momentum: Fraction  # of the teacher at the first step; rises to 1 on a half cosine
    freeze_prototypes: Fraction = 0.0  # share of training at whose start they stand still (the original: one epoch)
    hidden: PositiveInt  # the original: 2048
    bottleneck: PositiveInt  # the original: 256
    prototypes: PositiveInt  # K (the original: 65536)
    views: Annotated[tuple[View, ...], Field(min_length=2)]  # two large crops, then the small ones

    @model_validator(mode="after")
    def _large_crops_first(self) -> DINOObjective:
        if any(view.size is not None for view in self.views[:2]):
            raise ValueError("views: the first two are the teacher's and have the encoder's image size; leave out size")
        return self


class HybridObjective(Section):
    """CL + MIM (Figure 12): (1 - weight) * SimMIM + weight * MoCo v3 on one encoder."""

    method: Literal["hybrid"]
    weight: Fraction  # the paper's lambda: 0, 0.2, 0.4, 0.6, 1
    mim: SimMIMObjective
    cl: MoCoV3Objective

    @model_validator(mode="after")
    def _patch_projection_is_trained(self) -> HybridObjective:
        if self.cl.freeze_patch_projection and self.weight < 1:
            raise ValueError("cl.freeze_patch_projection: SimMIM trains the patch projection; set it to false")
        return self

    @property
    def mask_unit(self) -> int:
        """Of the masked part."""
        return self.mim.mask_unit


class VQTokenizerObjective(Section):
    """A discrete tokenizer of patches (van den Oord et al., arXiv 1711.00937), for BEiT to predict."""

    method: Literal["vq_tokenizer"]
    codes: PositiveInt  # entries of the codebook (DALL-E's: 8192)
    code_width: PositiveInt
    commitment: NonNegative = 0.25
    momentum: Fraction = 0.99  # of the running means that the codebook follows
    views: tuple[View]


class BEiTObjective(Section):
    """BEiT (Bao et al., arXiv 2106.08254): name the tokenizer's codes of hidden blocks of patches."""

    method: Literal["beit"]
    tokenizer: Name | None = None  # a model of the study of method vq_tokenizer; its first seed is used
    tokenizer_file: str | None = None  # or one that is given: a file as the training loop exports it
    codes: PositiveInt  # those of the tokenizer
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]  # the original: 0.4
    least_block: PositiveInt  # patches of the smallest block (the original: 16 of 196)
    views: tuple[View]

    @model_validator(mode="after")
    def _one_tokenizer(self) -> BEiTObjective:
        if (self.tokenizer is None) == (self.tokenizer_file is None):
            raise ValueError("give either tokenizer (a model of this study) or tokenizer_file (a path)")
        return self


class SupervisedObjective(Section):
    """Classification with the parts of the DeiT recipe (Touvron et al., arXiv 2012.12877)."""

    method: Literal["supervised"]
    classes: PositiveInt  # folders of the training set
    pooling: Literal["cls", "mean"] = "mean"
    mixup: NonNegative = 0.8  # alpha; 0: none
    cutmix: NonNegative = 1.0
    label_smoothing: Fraction = 0.1
    views: tuple[View]


Objective = Annotated[
    MoCoV3Objective
    | SimMIMObjective
    | MAEObjective
    | DINOObjective
    | BEiTObjective
    | HybridObjective
    | SupervisedObjective
    | VQTokenizerObjective,
    Field(discriminator="method"),
]


class Training(Section):
    """Optimisation: linear warm-up, then the schedule."""

    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    momentum: Fraction = 0.9  # of sgd and lars
    epochs: PositiveInt
    warmup_epochs: NonNegative
    schedule: Literal["cosine", "linear", "multistep"] = "cosine"  # down to min_lr, or steps at the milestones
    milestones: tuple[PositiveFloat, ...] = ()  # epochs at which the multistep schedule multiplies the rate by gamma
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    batch_size: PositiveInt  # global
    accumulate: PositiveInt = 1  # parts a batch is cut into, one after the other; refused where the loss needs it whole
    base_lr: PositiveFloat
    lr_batch: PositiveInt  # the rule: lr = base_lr * batch_size / lr_batch
    min_lr: NonNegative = 0.0
    weight_decay: NonNegative
    weight_decay_end: NonNegative | None = None  # reached on a half cosine (DINO: 0.04 to 0.4); constant by default
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)  # of adamw
    clip_norm: PositiveFloat | None = None
    drop_path: Fraction = 0.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16 on a GPU, float32 on a CPU
    compile: bool = False  # the blocks by torch.compile: faster after a minute or so; other last digits
    images: Literal["memory", "stream"] = "memory"
    # memory: decoded once, the centre square, kept on the device; stream: read again at every step, crops cut from
    # the whole picture, by worker processes that run ahead
    checkpoint_steps: PositiveInt  # a kill loses at most this many steps
    log_steps: PositiveInt
    rollback_factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    # A loss that is not finite stops the run; with a factor it first goes back to the last checkpoint, once, and on
    # with the learning rate times the factor.

    @model_validator(mode="after")
    def _schedule_fits(self) -> Training:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError("milestones: needed by the multistep schedule, and by no other")
        if self.milestones and max(self.milestones) >= self.epochs:
            raise ValueError(f"milestones: {max(self.milestones):g} lies not before the last epoch ({self.epochs})")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} does not divide batch_size {self.batch_size}")
        return self


class Model(Section):
    """An encoder pre-trained by one objective, once per seed."""

    label: str  # as written in figures, e.g. "MoCo v3"
    paradigm: Literal["cl", "mim", "hybrid", "supervised", "tokenizer"]
    # decides colour and marker; a tokenizer is trained for others and not analysed
    architecture: Name
    seeds: Annotated[list[Count], Field(min_length=1)]
    objective: Objective
    training: Training
    choices: str = ""  # what differs from the published recipe, and why
