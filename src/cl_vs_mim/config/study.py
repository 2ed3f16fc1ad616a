"""A whole study, checked across its parts, and reading it from its file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, ModelWrapValidatorHandler, PositiveInt, ValidationError, model_validator

from cl_vs_mim.config.analysis import Analysis, Figures
from cl_vs_mim.config.data import Data, KitData
from cl_vs_mim.config.expansion import expand
from cl_vs_mim.config.models import Architecture, Model
from cl_vs_mim.config.places import read_placed, with_place
from cl_vs_mim.config.sections import Name, Section
from cl_vs_mim.config.transfer import Transfer
from cl_vs_mim.config.validation import describe, nearest
from cl_vs_mim.core.blocks import block_index
from cl_vs_mim.core.errors import UserError, warn
from cl_vs_mim.core.registry import using
from cl_vs_mim.core.untrusted import Limits, read_text, set_limits


class Compute(Section):
    """How many cores one job takes; Snakemake runs as many jobs side by side as fit.

    Trained weights are bit for bit those of the same number of training threads.
    """

    compose_workers: PositiveInt = 2
    training_threads: PositiveInt = 1
    analysis_threads: PositiveInt = 1
    loader_workers: PositiveInt = 2  # read images for a training with images: stream; any number gives the same weights


class FileLimits(Section):
    """What no file that is read may exceed, however it came here; larger ones are refused before they are opened."""

    checkpoint_megabytes: PositiveInt = Limits.checkpoint_megabytes
    image_megabytes: PositiveInt = Limits.image_megabytes
    image_megapixels: PositiveInt = Limits.image_megapixels
    image_ratio: PositiveInt = Limits.image_ratio  # longer side by shorter side
    annotation_megabytes: PositiveInt = Limits.annotation_megabytes
    table_megabytes: PositiveInt = Limits.table_megabytes
    table_megacells: PositiveInt = Limits.table_megacells  # rows by columns


class Expectation(Section):
    """Stated in the head of the YAML: what a run costs and what it can and cannot show."""

    hardware: str
    result: str


RESERVED = ("reference", "bench")  # folders below results/ that are committed, and of no study


def _not_reserved(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"results/{name}/ is no study's; call it something else than {' or '.join(RESERVED)}")
    return name


class Study(Section):
    """One scale at which the paper is replicated."""

    study: Annotated[Name, AfterValidator(_not_reserved)]
    title: str
    reduced: bool  # figures of a reduced study say so
    expect: Expectation
    compute: Compute
    data: Data
    architectures: dict[Name, Architecture]
    models: dict[Name, Model]
    analysis: Analysis
    figures: Figures
    transfer: Transfer | None = None
    limits: FileLimits = FileLimits()
    extensions: tuple[Path, ...] = ()
    # files and folders with objectives, metrics, families, decoders, figures and tasks of this study's own; relative
    # to the working folder, as those of data sets are

    @model_validator(mode="wrap")
    @classmethod
    def _with_its_extensions(cls, raw: Any, handler: ModelWrapValidatorHandler[Study]) -> Study:
        with using(_extensions_of(raw)):
            return handler(raw)

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, raw: Any) -> Any:
        try:
            return expand(raw) if isinstance(raw, dict) else raw
        except UserError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _references_exist(self) -> Study:
        for name, model in self.models.items():
            if model.architecture not in self.architectures:
                raise ValueError(
                    f"models.{name}.architecture: {model.architecture!r} is not among the architectures"
                    f"{nearest(model.architecture, self.architectures)}"
                )
            tokenizer = model.objective is not None and model.objective.trains_tokenizer
            if (model.paradigm == "tokenizer") != tokenizer:
                other = "goes with a method that trains tokenizers, and with no other (vq_tokenizer is one)"
                raise ValueError(f"models.{name}.paradigm: tokenizer {other}")
            try:
                if model.objective is not None:
                    model.objective.check(model, self)
            except ValueError as error:
                raise ValueError(f"models.{name}.{error}") from error
        self._paths_hold_no_wildcards()
        self._blocks_and_heads_exist()
        self._images_exist()
        for name, paradigm in zip(self.figures.pair, ("cl", "mim"), strict=True):
            if name not in self.models:
                raise ValueError(f"figures.pair: {name!r} is not among the models{nearest(name, self.models)}")
            if self.models[name].paradigm != paradigm:
                raise ValueError(f"figures.pair: {name!r} is of paradigm {self.models[name].paradigm}, not {paradigm}")
        if self.analysis.robustness.labels not in self.analysis.probe.labels:
            raise ValueError(f"analysis.robustness.labels: no probe is fitted on {self.analysis.robustness.labels!r}")
        return self

    def analysed(self) -> dict[str, Model]:
        """The models that are measured and drawn: all but tokenizers."""
        return {name: model for name, model in self.models.items() if model.paradigm != "tokenizer"}

    def methods(self) -> dict[str, Model]:
        """Those of :meth:`analysed` that the appendix sets side by side: no hybrids, which Figure 12 has."""
        return {name: model for name, model in self.analysed().items() if model.paradigm != "hybrid"}

    def mixing(self, name: str) -> float:
        """Lambda of a model or control, the weight of the contrastive part in a hybrid; NaN for all others."""
        return self.models[name].mixing() if name in self.models else math.nan

    def pair(self) -> list[str]:
        """Names of the two models of the main figures and of the controls of their architectures."""
        architectures = dict.fromkeys(self.models[name].architecture for name in self.figures.pair)
        return [*self.figures.pair, *(f"untrained_{name}" for name in architectures)]

    def _paths_hold_no_wildcards(self) -> None:
        files = {"data.kit": self.data.kit} if isinstance(self.data, KitData) else {}
        for name, model in self.models.items():
            if model.objective is not None and (given := model.objective.given()) is not None:
                files[f"models.{name}.objective"] = Path(given)
            if (taken := model.checkpoint_file(name, model.seeds[0])) is not None:
                files[f"models.{name}.{'timm' if model.checkpoint is None else 'checkpoint'}.file"] = taken
        for key, path in files.items():
            if re.search(r"[{}]", str(path)):
                raise ValueError(f"{key}: braces in {str(path)!r} would be a wildcard of Snakemake; rename the file")

    def _blocks_and_heads_exist(self) -> None:
        blocks = {
            "figures.attention_maps.block": [self.figures.attention_maps.block],
            "analysis.movement": [self.analysis.movement.early, self.analysis.movement.late],
            "analysis.embedding.blocks": self.analysis.embedding.blocks,
            "analysis.robustness.block": [self.analysis.robustness.block],
        }
        head = self.figures.attention_maps.head
        for name, architecture in self.architectures.items():
            for key, named in blocks.items():
                for block in named:
                    try:
                        block_index(block, architecture.depth)
                    except ValueError as error:
                        raise ValueError(f"{key}: {error}: {name!r}") from error
            if head >= architecture.heads:
                raise ValueError(
                    f"figures.attention_maps.head: {head} is not a head of {name!r} (0 … {architecture.heads - 1})"
                )

    def _images_exist(self) -> None:
        images = {
            "figures.attention_maps.image": [self.figures.attention_maps.image],
            "analysis.movement.images": self.analysis.movement.images,
            "analysis.reconstruction.images": self.analysis.reconstruction.images,
        }
        for key, named in images.items():
            if max(named) >= self.analysis.images:
                raise ValueError(f"{key}: must be smaller than analysis.images ({self.analysis.images})")

    def controls(self) -> dict[str, str]:
        """Names of the untrained encoders, ``untrained_<architecture>``, to the architecture of each."""
        used = dict.fromkeys(model.architecture for model in self.analysed().values())
        return {f"untrained_{name}": name for name in used}

    def doubts(self) -> list[str]:
        """What is allowed, but weakens what the study can say."""
        trained = max((len(model.seeds), name) for name, model in self.analysed().items())
        untrained = len(self.analysis.control_seeds)
        if untrained >= trained[0]:
            return []
        return [
            f"analysis.control_seeds: {untrained} for {trained[0]} seeds of models.{trained[1]}; what training adds is "
            f"known no better than the untrained encoders are, so give {trained[0]} or more (the audit asks for them)"
        ]


# ------------------------------------------------------------------------------------------------
# Loading
# ------------------------------------------------------------------------------------------------


def load_study(path: Path) -> Study:
    """Read and validate ``config/<study>.yaml``. Its limits hold from here on for every file that is read.

    Raises:
        UserError: the file is missing, is not YAML, or has an unknown key (named, with the nearest valid one) or a
            value out of range. All problems of the file are listed at once.
    """
    path = Path(path)
    try:
        raw: dict[str, Any] = read_placed(path)
    except FileNotFoundError as error:
        known = ", ".join(studies_in(path.parent)) or "none"
        raise UserError(f"config {path} does not exist; studies at hand: {known}") from error
    try:
        raw = expand(raw, path.parent)
    except UserError as error:
        raise UserError(f"config {path} is not valid:\n  {with_place(str(error), raw)}") from error
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        with using(_extensions_of(raw)):
            problems = "\n".join(f"  {describe(detail, raw, Study)}" for detail in error.errors())
        raise UserError(f"config {path} is not valid:\n{problems}") from error
    if study.study != path.stem:
        raise UserError(f"config {path}: study is {study.study!r}, but the file is named {path.stem!r}")
    set_limits(Limits(**study.limits.model_dump()))
    for trouble in study.doubts():
        warn(f"config {path}: {trouble}")
    return study


def studies_in(folder: Path) -> list[str]:
    """Names of the studies of a folder, such as ``config/``, in alphabetical order; none is checked."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml") if _is_study(path))


def _is_study(path: Path) -> bool:
    try:
        return re.search("^study:", read_text(path, "yaml"), re.M) is not None
    except (OSError, ValueError, UserError):
        return False


def extensions_of_file(path: Path) -> tuple[Path, ...]:
    """The extensions that a study's file names, read without checking the rest; none where it cannot be read."""
    try:
        return _extensions_of(read_placed(Path(path)))
    except (OSError, UserError):
        return ()  # load_study says what is wrong


def _extensions_of(raw: Any) -> tuple[Path, ...]:
    """The key ``extensions`` of a study that is not checked yet; none where it is no list of paths."""
    named: Any = raw.get("extensions") if isinstance(raw, dict) else getattr(raw, "extensions", ())
    if isinstance(named, str) or not isinstance(named, Iterable):
        return ()
    return tuple(Path(one) for one in named if isinstance(one, str | Path))


def expanded(study: Study) -> str:
    """The whole study as YAML in which nothing is named and every default stands: what decided its results.

    :func:`load_study` reads it back to an equal study.
    """
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
