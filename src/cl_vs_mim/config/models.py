"""Encoders and where they come from: architecture, then objective and optimisation, or a checkpoint."""

from __future__ import annotations

import math
import string
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from cl_vs_mim.config.objective import OBJECTIVES, Objective, ObjectiveConfig
from cl_vs_mim.config.sections import Decay, Name, NonNegative, Ordered, Pixels, Section, Seeds, Unique
from cl_vs_mim.core.errors import UserError, nearest
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.encoder.spec import RECENT, EncoderSpec


def _known_family(name: str) -> str:
    if name not in FAMILIES.modules():
        raise ValueError(f"there is no family {name!r}{nearest(name, FAMILIES.names())}")
    return name


class Architecture(Section):
    """An encoder; the field names are those of :class:`cl_vs_mim.encoder.spec.EncoderSpec`."""

    label: str  # as written in figures, e.g. "ViT-Ti/8"
    family: Annotated[str, AfterValidator(_known_family)]
    image_size: Pixels
    patch_size: Pixels
    width: Annotated[int, Field(ge=1, le=16384)]
    depth: Annotated[int, Field(ge=1, le=1024)]
    heads: PositiveInt
    mlp_ratio: Annotated[float, Field(gt=0, le=64)] = 4.0
    positions: str  # of those that the family takes
    layer_scale: PositiveFloat | None = None
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    variant: str | None = None  # timm's name of it, for family timm_vit
    pixel_mean: tuple[float, float, float] | None = None  # of images in 0 … 1 as the encoder takes them, by colour;
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None  # by default ImageNet's

    @model_validator(mode="after")
    def _consistent(self) -> Architecture:
        self.spec()
        return self

    @model_serializer(mode="wrap")
    def _without_recent_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name not in RECENT or value is not None}

    def spec(self, drop_path: float = 0.0) -> EncoderSpec:
        """The encoder's specification; raises ``ValueError`` where the fields contradict each other."""
        return EncoderSpec(drop_path=drop_path, **self.model_dump(exclude={"label"}))


class Snapshots(Section):
    """Encoders kept while they train, so that one can see when an effect appears."""

    first: PositiveInt  # images seen at the first one
    factor: Annotated[float, Field(gt=1)] = 2.0  # from one to the next


class Training(Section):
    """Optimisation: linear warm-up, then the schedule."""

    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    momentum: Decay = 0.9  # of sgd and lars
    epochs: PositiveInt
    warmup_epochs: NonNegative
    schedule: Literal["cosine", "linear", "multistep"] = "cosine"  # down to min_lr, or steps at the milestones
    milestones: Annotated[
        tuple[PositiveFloat, ...], Ordered, Unique
    ] = ()  # epochs at which the multistep schedule multiplies the rate by gamma
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    batch_size: PositiveInt  # global
    accumulate: PositiveInt = 1  # parts a batch is cut into, one after the other; refused where the loss needs it whole
    base_lr: PositiveFloat
    lr_batch: PositiveInt  # the rule: lr = base_lr * batch_size / lr_batch
    min_lr: NonNegative = 0.0
    weight_decay: NonNegative
    weight_decay_end: NonNegative | None = None  # reached on a half cosine (DINO: 0.04 to 0.4); constant by default
    betas: tuple[Decay, Decay] = (0.9, 0.999)  # of adamw
    clip_norm: PositiveFloat | None = None
    drop_path: Decay = 0.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    # auto: bf16 on a GPU; on a CPU what is faster there when a pre-training starts, float32 in transfers
    compile: bool = False  # the blocks by torch.compile: faster after a minute or so; other last digits
    images: Literal["memory", "stream"] = "memory"
    # memory: decoded once, the centre square, kept on the device; stream: read again at every step, crops cut from
    # the whole picture, by worker processes that run ahead
    checkpoint_steps: PositiveInt  # a kill loses at most this many steps
    log_steps: PositiveInt
    snapshots: Snapshots | None = None  # decide no weights: a run that exists goes on when they are changed
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
            raise ValueError(f"milestones: {max(self.milestones):g} is not before the last epoch ({self.epochs})")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} does not divide batch_size {self.batch_size}")
        highest = self.base_lr * self.batch_size / self.lr_batch
        if self.min_lr > highest:
            raise ValueError(f"min_lr: {self.min_lr:g} is above the highest rate (base_lr scaled: {highest:g})")
        return self


def _with_known_places(pattern: str) -> str:
    try:
        parts = [part for part in string.Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{pattern!r} is not a path with {{model}} and {{seed}}: {error}") from error
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError(f"{pattern!r}: write {{model}} and {{seed}} as they are, without a format")
    if unknown := sorted({str(name) for _, name, _, _ in parts} - {"model", "seed"}):
        raise ValueError(f"{{{unknown[0]}}} stands for nothing; {{model}} and {{seed}} do")
    return pattern


class Checkpoint(Section):
    """Files of encoders that were trained elsewhere, or before, and are taken as they are."""

    file: Annotated[str, AfterValidator(_with_known_places)]
    # one a seed: {model} and {seed} stand for the model's key and the seed; relative to the working folder
    format: str = "native"  # ours, or a container that cl_vs_mim.encoder.checkpoints reads
    method: Name | None = None  # how it was trained, as tables say it; needed where no objective is given


class Timm(Section):
    """An encoder of timm's by its tag, from timm's hub or from a file that was fetched before."""

    tag: Annotated[str, Field(pattern=r"^[a-z0-9_]+\.[A-Za-z0-9_.-]+$")]  # such as vit_small_patch14_dinov2.lvd142m
    pretrained: bool = False  # fetched from the hub, which needs a network
    file: Annotated[str, AfterValidator(_with_known_places)] | None = None  # as of Checkpoint
    method: Name  # how it was trained, as tables say it

    @model_validator(mode="after")
    def _one_source(self) -> Timm:
        if self.pretrained == (self.file is not None):
            raise ValueError("pretrained: true, or the path of a file; one of the two")
        return self


class Model(Section):
    """An encoder pre-trained by one objective, once per seed; or taken from files, one per seed."""

    label: str  # as written in figures, e.g. "MoCo v3"
    paradigm: Literal["cl", "mim", "hybrid", "supervised", "tokenizer"]
    # decides colour and marker; a tokenizer is trained for others and not analysed
    architecture: Name
    seeds: Seeds
    objective: Objective | None = None
    training: Training | None = None
    checkpoint: Checkpoint | None = None
    # taken instead of trained; objective and training, if they are given, say how it was made, and the tables of its
    # training are expected where a training would have put them
    timm: Timm | None = None  # taken by its name; its architecture is of family timm_vit
    choices: str = ""  # what differs from the published recipe, and why

    @model_validator(mode="after")
    def _has_a_source(self) -> Model:
        if self.timm is not None:
            return self._is_taken_from_timm()
        if self.checkpoint is None:
            if self.objective is None or self.training is None:
                missing = "objective" if self.objective is None else "training"
                raise ValueError(f"{missing}: needed for training; or give the file of a trained encoder as checkpoint")
            return self
        stated, trained = self.checkpoint.method, self.objective and self.objective.method
        if stated is None and trained is None:
            raise ValueError("checkpoint.method: say how the encoder was trained, such as moco_v3")
        if stated and trained and stated != trained:
            raise ValueError(f"checkpoint.method: {stated!r}, but objective.method is {trained!r}; leave one out")
        method, container = stated or trained, self.checkpoint.format
        if method != container and {method, container} <= set(OBJECTIVES.names()):
            raise ValueError(
                f"checkpoint.format: an encoder published as {container!r} is labelled {method!r}; correct one "
                "of them or, if it was saved in that container all the same, convert it to native"
            )
        if len(self.seeds) > 1 and "{seed}" not in self.checkpoint.file:
            raise ValueError("checkpoint.file: one file for several seeds; write {seed} where the seed stands")
        return self

    def _is_taken_from_timm(self) -> Model:
        assert self.timm is not None
        if self.checkpoint is not None or self.objective is not None or self.training is not None:
            raise ValueError("timm: an encoder that is taken by its name has no checkpoint, objective or training")
        if len(self.seeds) > 1 and "{seed}" not in (self.timm.file or ""):
            raise ValueError("timm: one encoder for several seeds; leave one seed, or write {seed} in file")
        return self

    @property
    def taken(self) -> bool:
        """Whether it is taken as somebody trained it, and not trained here."""
        return self.checkpoint is not None or self.timm is not None

    @property
    def method(self) -> str:
        """How it was trained, such as ``moco_v3``."""
        if self.timm is not None:
            return self.timm.method
        if self.objective is not None:
            return self.objective.method
        assert self.checkpoint is not None and self.checkpoint.method is not None  # the validator's
        return self.checkpoint.method

    @property
    def paints(self) -> bool:
        """Whether it comes with a decoder that turns tokens into images; see :class:`ObjectiveConfig`."""
        return self.objective is not None and self.objective.paints

    @property
    def deep_decoder(self) -> bool:
        """Whether that decoder has blocks."""
        return self.objective is not None and self.objective.deep_decoder

    def mixing(self) -> float:
        """The paper's lambda, the weight of the contrastive part in a hybrid; NaN for all others."""
        return math.nan if self.objective is None else self.objective.mixing()

    def recipe(self) -> tuple[ObjectiveConfig, Training]:
        """Objective and optimisation.

        Raises:
            UserError: neither is known of a model that is taken from a checkpoint.
        """
        if self.objective is None or self.training is None:
            raise UserError(f"{self.label} is taken from a checkpoint, and the study does not say how to train it")
        return self.objective, self.training

    def checkpoint_file(self, name: str, seed: int) -> Path | None:
        """The file that the encoder of a seed is taken from; None: there is none. ``name`` is the model's key."""
        source = self.checkpoint or self.timm
        if source is None or source.file is None:
            return None
        return Path(source.file.format(model=name, seed=seed))
