"""A whole study, checked across its parts, and reading it from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from cl_vs_mim.config.data import KitData
from cl_vs_mim.config.models import Architecture, Model
from cl_vs_mim.config.sections import Count, Name, Section
from cl_vs_mim.config.validation import UniqueKeyLoader, describe, nearest
from cl_vs_mim.errors import UserError

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
