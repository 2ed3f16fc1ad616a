"""Whose tables these are: an encoder of the study, trained or not, and the images it is shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.config import Architecture, Section, Study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.tables import row_head
from cl_vs_mim.data.images import ImageFolderIndex, decode_many, index_image_folder, select_evenly
from cl_vs_mim.encoder.checkpoints import load_encoder, read_header
from cl_vs_mim.encoder.model import Encoder, build_encoder

SPLIT = "val"

# ------------------------------------------------------------------------------------------------
# Encoders
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluatedEncoder:
    """An encoder's columns in every table."""

    model: str  # key in the study, or untrained_<architecture>
    label: str  # as written in figures
    method: str  # moco_v3, simmim … or untrained
    paradigm: str  # cl, mim or control
    architecture: str  # key in the study
    seed: int
    stage: str = "pretrained"  # or finetuned


def find_encoder(study: Study, model: str, seed: int, stage: str = "pretrained") -> EvaluatedEncoder:
    """The model or control of this name.

    Raises:
        UserError: the study has neither.
    """
    controls = study.controls()
    if model in controls:
        label = f"untrained {study.architectures[controls[model]].label}"
        return EvaluatedEncoder(model, label, "untrained", "control", controls[model], seed, stage)
    if model not in study.models:
        known = ", ".join([*study.models, *controls])
        raise UserError(f"study {study.study!r} has no model {model!r}; known: {known}")
    found = study.models[model]
    return EvaluatedEncoder(model, found.label, found.objective.method, found.paradigm, found.architecture, seed, stage)


def open_encoder(subject: EvaluatedEncoder, architecture: Architecture, path: Path | None) -> Encoder:
    """The trained encoder of the file, or the untrained one of the seed, in evaluation mode.

    Raises:
        UserError: a trained model without a file or a control with one; a file of another architecture, model or seed.
    """
    if subject.paradigm == "control" and subject.stage == "pretrained":
        if path is not None:
            raise UserError(f"{subject.model} is untrained and drawn from its seed; leave out --encoder {path}")
        return build_encoder(architecture.spec(), subject.seed).eval()
    if path is None:
        raise UserError(f"{subject.model} is a trained model; give its file with --encoder")
    encoder = load_encoder(path, "native")
    wanted, found = architecture.spec().to_dict(), encoder.spec.to_dict()
    differences = [
        f"{name} {found[name]} instead of {wanted[name]}"
        for name in wanted
        if name != "drop_path" and found[name] != wanted[name]  # of training only
    ]
    if differences:
        raise UserError(
            f"{path} is not of architecture {subject.architecture!r}: {', '.join(differences)}; train it again"
        )
    _, provenance = read_header(path)
    for name in ("model", "seed", "stage"):
        stated = provenance.get(name, "pretrained" if name == "stage" else None)
        if isinstance(stated, str | int) and stated != getattr(subject, name):
            raise UserError(f"{path} states {name} {stated!r}, but {getattr(subject, name)!r} was asked for")
    return encoder


def data_hash(data: Path) -> str:
    """What the composer calls the content of a data set.

    Raises:
        UserError: there is no finished data set.
    """
    path = data / "manifest.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["data_hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged: {data} is not a finished data set; build it again") from error


# ------------------------------------------------------------------------------------------------
# Images
# ------------------------------------------------------------------------------------------------


def analysis_images(study: Study, data: Path) -> tuple[ImageFolderIndex, np.ndarray, list[str]]:
    """The validation set, the positions of the analysed images in it, and their names (paths relative to ``data``)."""
    index = index_image_folder(data / SPLIT)
    positions = select_evenly(index.labels, study.analysis.images, study.analysis.seed)
    return index, positions, [f"{SPLIT}/{index.paths[position]}" for position in positions]


def batches(
    index: ImageFolderIndex, positions: np.ndarray, size: int, crop_fraction: float, batch_size: int, workers: int
) -> Iterator[Tensor]:
    """(B, 3, size, size) uint8, the next batch being decoded while this one is used."""

    def decoded(start: int) -> Tensor:
        chunk = positions[start : start + batch_size]
        return decode_many(index, chunk, size, crop_fraction=crop_fraction, workers=workers)

    with ThreadPoolExecutor(1) as pool:
        starts = range(0, len(positions), batch_size)
        ahead = pool.submit(decoded, 0)
        for start in starts:
            current = ahead.result()
            if start + batch_size < len(positions):
                ahead = pool.submit(decoded, start + batch_size)
            yield current


# ------------------------------------------------------------------------------------------------
# Tables and command lines
# ------------------------------------------------------------------------------------------------


def table_head(
    study: Study, subject: EvaluatedEncoder, content: str, device: torch.device, settings: dict[str, Section]
) -> dict[str, str | int]:
    """The constant columns of a table: the head of every row, then the encoder's.

    Args:
        study: whose table it is.
        subject: whose values they are.
        content: hash of the data set.
        device: where the encoder ran.
        settings: the further sections of the study that decide the values, by name. Data, architecture, model and
            the choice of images always count.
    """
    sections = {
        "data": study.data,
        "architecture": study.architectures[subject.architecture],
        "model": study.models.get(subject.model),
        **settings,
    }
    digests = {name: None if section is None else section.digest() for name, section in sections.items()}
    digests["sample"] = study.analysis.sample_digest()
    head = row_head(study=study.study, config_hash=sha256_json(digests), data_hash=content, device=device)
    return head | asdict(subject)


def choose_device(name: str) -> torch.device:
    """The device called ``auto``, ``cpu`` or ``cuda``; ``auto`` takes a GPU if there is one.

    Raises:
        UserError: there is no GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: no CUDA device is at hand; use --device cpu")
    return device


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command about one encoder has."""
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML")
    parser.add_argument("--model", required=True, help="a model of the study, or untrained_<architecture>")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--encoder", type=Path, help="native checkpoint; not for untrained_…")
    parser.add_argument("--data", type=Path, required=True, help="folder of the single-object images")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for decoding and for the encoder")
