"""The encoder that a command is about, trained or not: finding it, opening it, and its columns in every table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.config import Architecture, Study, load_study
from cl_vs_mim.config.encoders import model_and_seed
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import row_head
from cl_vs_mim.data.images import ImageFolderIndex, decode_many, index_image_folder, normalise, select_evenly
from cl_vs_mim.encoder.checkpoints import load_encoder, read_header, require_spec
from cl_vs_mim.encoder.model import Encoder, build_encoder
from cl_vs_mim.encoder.pooling import POOLINGS, pool

SPLIT = "val"
Stage = Literal["pretrained", "finetuned"]

# ------------------------------------------------------------------------------------------------
# Which encoder
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluatedEncoder:
    """What every table says of the encoder that was measured.

    Attributes:
        model: key in the study, or ``untrained_<architecture>``.
        label: as written in figures.
        method: ``moco_v3``, ``simmim`` … or ``untrained``.
        paradigm: ``cl``, ``mim``, ``hybrid``, ``supervised`` or ``control``.
        architecture: key in the study.
        seed: seed of the training, or of the untrained weights.
        stage: ``pretrained`` or ``finetuned``.
        mixing: the paper's lambda, the share of the contrastive loss; NaN for all but hybrids.
    """

    model: str
    label: str
    method: str
    paradigm: str
    architecture: str
    seed: int
    stage: Stage = "pretrained"
    mixing: float = math.nan

    @property
    def name(self) -> str:
        """For progress bars and messages."""
        return f"{self.model} seed {self.seed}"

    def columns(self) -> dict[str, str | int | float]:
        """The columns of a table that say which encoder it is of; ``mixing`` is called ``lambda`` there."""
        columns = asdict(self)
        return columns | {"lambda": columns.pop("mixing")}


def find_run(study: Study, run: str, stage: Stage = "pretrained") -> EvaluatedEncoder:
    """The encoder of a run.

    Args:
        study: the study with the model.
        run: file stem of what belongs to the encoder, such as ``moco_v3_seed0`` or ``untrained_vit_seed0``.
        stage: ``finetuned`` if its weights were trained further on labels.

    Raises:
        UserError: the study has no such encoder.
    """
    return find_encoder(study, *model_and_seed(study, run), stage)


def find_encoder(study: Study, model: str, seed: int, stage: Stage = "pretrained") -> EvaluatedEncoder:
    """The model or untrained control of this name.

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
    method, mixing = found.method, found.mixing()
    return EvaluatedEncoder(model, found.label, method, found.paradigm, found.architecture, seed, stage, mixing)


# ------------------------------------------------------------------------------------------------
# Opening it
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """An encoder at work: what nearly every command about one begins with."""

    study: Study
    evaluated: EvaluatedEncoder
    architecture: Architecture
    encoder: Encoder  # in evaluation mode, on the device
    device: torch.device

    def head(self, *, config_hash: str, data_hash: str) -> dict[str, str | int | float]:
        """The constant columns of its tables; see :func:`table_head`."""
        return table_head(self.study, self.evaluated, data_hash, self.device, config_hash=config_hash)


def open_run(
    config: Path, run: str, encoder: Path | None, *, device: str, threads: int, stage: Stage = "pretrained"
) -> Evaluation:
    """Read the study, find the run's encoder in it and open it.

    Args:
        config: the study's YAML.
        run: such as ``moco_v3_seed0``.
        encoder: its native checkpoint; None for an untrained one.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads that torch may use.
        stage: whether the file holds the encoder as pre-trained or as fine-tuned.

    Raises:
        UserError: see :func:`find_run`, :func:`open_encoder` and :func:`choose_device`.
    """
    torch.set_num_threads(threads)
    place = choose_device(device)
    study = load_study(config)
    evaluated = find_run(study, run, stage)
    architecture = study.architectures[evaluated.architecture]
    return Evaluation(study, evaluated, architecture, open_encoder(evaluated, architecture, encoder).to(place), place)


def open_encoder(evaluated: EvaluatedEncoder, architecture: Architecture, path: Path | None) -> Encoder:
    """The trained encoder of the file, or the untrained one of the seed, in evaluation mode.

    Raises:
        UserError: a trained model without a file or a control with one; a file of another architecture, model or seed.
    """
    if evaluated.paradigm == "control" and evaluated.stage == "pretrained":
        if path is not None:
            raise UserError(f"{evaluated.model} is untrained and drawn from its seed; leave out --encoder {path}")
        return build_encoder(architecture.spec(), evaluated.seed).eval()
    if path is None:
        raise UserError(f"{evaluated.model} is a trained model; give its file with --encoder")
    encoder = load_encoder(path, "native")
    wanted = architecture.spec()
    by_block = encoder.family.by_block.get(wanted.positions)
    if evaluated.stage == "finetuned" and encoder.spec.positions == by_block:  # fine-tuning may have given each its own
        wanted = replace(wanted, positions=by_block)
    require_spec(path, encoder, wanted, evaluated.architecture)
    _, provenance = read_header(path)
    for name in ("model", "seed", "stage"):
        stated = provenance.get(name, "pretrained" if name == "stage" else None)
        if isinstance(stated, str | int) and stated != getattr(evaluated, name):
            raise UserError(f"{path} states {name} {stated!r}, but {getattr(evaluated, name)!r} was asked for")
    return encoder


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


# ------------------------------------------------------------------------------------------------
# Images
# ------------------------------------------------------------------------------------------------


def analysis_images(study: Study, data: Path) -> tuple[ImageFolderIndex, np.ndarray, list[str]]:
    """The images that encoders are analysed on.

    Returns:
        The validation set, the positions of the analysed images in it, and their names: paths relative to ``data``.
    """
    index = index_image_folder(data / SPLIT)
    positions = select_evenly(index.labels, study.analysis.images, study.analysis.seed)
    return index, positions, [f"{SPLIT}/{index.paths[position]}" for position in positions]


def batches(
    index: ImageFolderIndex, positions: np.ndarray, size: int, crop_fraction: float, batch_size: int, workers: int
) -> Iterator[Tensor]:
    """Batches of images, the next one being decoded while this one is used.

    Args:
        index: the folder of images.
        positions: indices of the wanted images, in order.
        size: side of the images given out, px.
        crop_fraction: share of the shorter side that the centre crop keeps.
        batch_size: images in a batch; the last one may have fewer.
        workers: threads that decode.

    Yields:
        (B, 3, size, size) uint8.
    """

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


@torch.inference_mode()
def depth_tokens(encoder: Encoder, pixels: Tensor, final_norm: bool = False) -> list[Tensor]:
    """(B, 3, S, S) uint8 -> L+1 tensors (B, 1+N, D): the tokens of depth 0 … L, CLS first.

    Of an encoder without CLS the first token is NaN.

    Args:
        encoder: in evaluation mode, on the device that does the work.
        pixels: a batch.
        final_norm: apply the encoder's last LayerNorm to the tokens of every depth.
    """
    images = normalise(pixels.to(next(encoder.parameters()).device, non_blocking=True))
    return encoder.block_states(images, final_norm)


@torch.inference_mode()
def depth_features(encoder: Encoder, pixels: Tensor, final_norm: bool = False) -> Tensor:
    """(B, 3, S, S) uint8 -> (B, L+1, 2, D) float32: depth 0 … L, then :data:`POOLINGS`; 0 for a CLS that is not there.

    Args:
        encoder: in evaluation mode, on the device that does the work.
        pixels: a batch.
        final_norm: apply the encoder's last LayerNorm to the tokens of every depth.
    """
    states = depth_tokens(encoder, pixels, final_norm)
    features = torch.stack([torch.stack([pool(state, way) for way in POOLINGS], dim=1) for state in states], dim=1)
    if not encoder.has_cls:
        features[:, :, POOLINGS.index("cls")] = 0
    return features


# ------------------------------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------------------------------


def table_head(
    study: Study,
    evaluated: EvaluatedEncoder,
    content: str,
    device: torch.device,
    *,
    config_hash: str,
) -> dict[str, str | int | float]:
    """The constant columns of a table: the head of every row, then those of the encoder.

    Args:
        study: the study that the table belongs to.
        evaluated: the encoder that was measured.
        content: hash of the data set.
        device: where the encoder ran.
        config_hash: hash of the settings that decide the values, :meth:`cl_vs_mim.core.commands.Command.config_hash`.
    """
    head = row_head(study=study.study, config_hash=config_hash, data_hash=content, device=device)
    return head | evaluated.columns()
