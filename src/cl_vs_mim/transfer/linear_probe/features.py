"""Features of every depth, computed once: one fused forward pass over a split, then kept in memory or in a file.

The embedding and the output of each block, each as CLS and as the mean of the patch tokens. Fused attention forms no
maps, so the pass costs what the encoder costs. There is no augmentation: what is trained on these features follows
the protocol ``cached``.

A file is written under another name and renamed when it is whole; its name holds a digest of all that decides its
content. So a finished file is used again, and a torn or an outdated one never is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import atomic_path, sha256_json
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import package_versions
from cl_vs_mim.data.images import ImageFolderIndex
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.pooling import POOLINGS
from cl_vs_mim.evaluated import batches, depth_features

Precision = Literal["float32", "float16"]

# ------------------------------------------------------------------------------------------------
# One pass over a split
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureOptions:
    """How images become features, and where the features may lie."""

    crop_fraction: float = 1.0
    batch_size: int = 64
    workers: int = 1
    final_norm: bool = False
    precision: Precision = "float32"  # of what is kept
    memory: float = 4 * 2**30  # bytes that the features of one split may take before they go to a file
    folder: Path | None = None  # of such files


def split_features(
    encoder: Encoder, index: ImageFolderIndex, options: FeatureOptions, content: str, desc: str
) -> Tensor:
    """(M, L+1, 2, D) features of all images of a split, on the CPU, in the order of the index.

    In memory where they fit into ``options.memory``, else mapped from a file of ``options.folder``, read-only.

    Args:
        encoder: in evaluation mode.
        index: the split.
        options: what is computed, and where it is kept.
        content: hash of the data set, for the name of the file.
        desc: text of the progress bar.

    Raises:
        UserError: the features do not fit and no folder was given; or a feature is not finite (image and depth are
            named).
    """
    spec = encoder.spec
    shape = (len(index), spec.depth + 1, len(POOLINGS), spec.width)
    dtype = np.dtype(options.precision)
    needed = int(np.prod(shape)) * dtype.itemsize
    if needed <= options.memory:
        features = np.empty(shape, dtype)
        _fill(features, encoder, index, options, desc)
        return torch.from_numpy(features)
    if options.folder is None:
        raise UserError(
            f"the features of {index.root} take {needed / 2**30:.1f} GiB, more than the {options.memory / 2**30:.1f} "
            "GiB allowed; give a folder for them with --cache, or allow more with --memory-gib"
        )
    path = Path(options.folder) / f"{index.root.name}-{features_key(encoder, index, options, content)}.npy"
    if not path.exists():
        with atomic_path(path) as temporary, _mapped(temporary, dtype, shape) as features:
            _fill(features, encoder, index, options, desc)
    return torch.from_numpy(np.load(path, mmap_mode="c"))  # copy on write: torch warns of tensors it may not write


def features_key(encoder: Encoder, index: ImageFolderIndex, options: FeatureOptions, content: str) -> str:
    """16 hex digits that change with whatever decides the features: weights, images, options, code and packages."""
    weights = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    decisive = {
        "weights": weights.hexdigest(),
        "spec": encoder.spec.to_dict(),
        "content": content,
        "images": sha256_json([index.root.name, *index.paths]),
        "crop_fraction": options.crop_fraction,
        "final_norm": options.final_norm,
        "precision": options.precision,
        "code": code_digest("cl_vs_mim.transfer.linear_probe.features"),
        "packages": package_versions(),
        "device": next(encoder.parameters()).device.type,
    }
    return sha256_json(decisive)[:16]


@contextmanager
def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    features = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    yield features
    features.flush()


def _fill(features: np.ndarray, encoder: Encoder, index: ImageFolderIndex, options: FeatureOptions, desc: str) -> None:
    positions = np.arange(len(index))
    size = encoder.spec.image_size
    pixels = batches(index, positions, size, options.crop_fraction, options.batch_size, options.workers)
    done = 0
    with progress(total=len(index), desc=desc, unit="image") as bar:
        for batch in pixels:
            kept = depth_features(encoder, batch, options.final_norm).to(getattr(torch, options.precision)).cpu()
            finite = torch.isfinite(kept).flatten(2).all(dim=2)  # (B, L+1)
            if not finite.all():
                image, depth = torch.nonzero(~finite)[0].tolist()
                raise UserError(
                    f"{desc}: the features of {index.root / index.paths[done + image]} are not finite at depth "
                    f"{depth} in {options.precision}; "
                    + (
                        "set analysis.probe.precision to float32"
                        if options.precision == "float16"
                        else "the encoder has diverged, train it again"
                    )
                )
            features[done : done + len(batch)] = kept.numpy()
            done += len(batch)
            bar.update(len(batch))
