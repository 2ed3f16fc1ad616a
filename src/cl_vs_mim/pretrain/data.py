"""The training set: its files, its hash, and which images make up which batch."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.randomness import generator_for
from cl_vs_mim.data.images import ImageFolderIndex, index_image_folder


def index_training_images(folder: Path) -> tuple[ImageFolderIndex, str]:
    """The ImageFolder ``folder/train`` and the hash that stands for its content.

    The hash is the ``data_hash`` of ``folder/manifest.json``; a data set without a manifest, such as ImageNet, is
    known by the names and sizes of its files.

    Raises:
        UserError: no ImageFolder there, or a damaged manifest.
    """
    folder = Path(folder)
    index = index_image_folder(folder / "train")
    manifest = folder / "manifest.json"
    if not manifest.exists():
        return index, sha256_json([[path, (index.root / path).stat().st_size] for path in index.paths])
    try:
        return index, str(json.loads(manifest.read_text(encoding="utf-8"))["data_hash"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{manifest} is damaged; delete the folder and build the data set again") from error


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in ``count`` images; what is left over is dropped, others in every epoch.

    Raises:
        UserError: not one whole batch.
    """
    if count < batch_size:
        raise UserError(
            f"the training set has {count} images, fewer than training.batch_size {batch_size}; "
            "lower the batch size or compose more images"
        )
    return count // batch_size


def batch_positions(step: int, count: int, batch_size: int, seed: int) -> Tensor:
    """Positions (batch_size,) of the images of a step: a slice of the permutation of its epoch."""
    epoch, slot = divmod(step, steps_per_epoch(count, batch_size))
    return _permutation(epoch, count, seed)[slot * batch_size : (slot + 1) * batch_size]


@lru_cache(maxsize=2)
def _permutation(epoch: int, count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, "order", epoch))
