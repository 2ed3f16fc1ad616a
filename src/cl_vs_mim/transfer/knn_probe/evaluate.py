"""Votes of the nearest training images at every depth, protocol ``knn`` (Caron et al., arXiv 2104.14294, section 4.1).

For the embedding and each block (depth 0 … L), for CLS and the mean of the patch tokens, and for each kind of label.
The training images pass the encoder once and are not kept: of every evaluated image only its nearest ones so far are,
so that memory grows with the evaluated images alone.

Shapes: M evaluated images, S feature sets (depth x pooling), D channels, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import with_columns
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.evaluated import batches, depth_features
from cl_vs_mim.metrics.neighbours import vote
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.knn_probe import KnnProbe
from cl_vs_mim.transfer.linear_probe.selection import image_rows, without_cls
from cl_vs_mim.transfer.splits import Split, constant_guess, read_splits

PROTOCOL = "knn"


class Nearest:
    """The training images nearest to each of M images, by cosine, while training images come by.

    Args:
        features: (S, M, D), of length 1.
        neighbours: k.
    """

    def __init__(self, features: Tensor, neighbours: int) -> None:
        self.features = features
        self.neighbours = neighbours
        self.cosines = features.new_empty(*features.shape[:2], 0)  # (S, M, up to k)
        self.places = torch.empty(self.cosines.shape, dtype=torch.int64, device=features.device)

    def add(self, known: Tensor, first: int) -> None:
        """More training images (S, B, D), of length 1, the first of which is number ``first``."""
        cosines = torch.cat([self.cosines, self.features @ known.mT], dim=-1)
        places = torch.arange(first, first + known.shape[1], device=known.device).expand(*cosines.shape[:2], -1)
        places = torch.cat([self.places, places], dim=-1)
        self.cosines, chosen = cosines.topk(min(self.neighbours, cosines.shape[-1]), dim=-1)
        self.places = places.gather(-1, chosen)


def evaluate(job: Job, trained: None) -> dict[str, pd.DataFrame]:
    """The table of one encoder.

    Returns:
        ``knn_probe``: a row per validation image, depth, pooling and kind of label, 1 where the votes are right; for
        categories also the held-out objects. ``chance`` is the accuracy of always naming the commonest label.

    Raises:
        UserError: images or labels are missing, or a feature is not finite.
    """
    settings: KnnProbe = job.settings
    train, evaluated = read_splits(job.data, list(settings.labels))
    encoder = job.encoder.to(job.device)
    found = [
        Nearest(torch.cat(list(_features(job, encoder, split)), dim=1), settings.neighbours) for split in evaluated
    ]
    done = 0
    for known in _features(job, encoder, train):
        for one in found:
            one.add(known, done)
        done += known.shape[1]
    rows = [
        _rows(one, split, kind, train, settings.temperature)
        for one, split in zip(found, evaluated, strict=True)
        for kind in split.labels
    ]
    table = pd.concat(rows, ignore_index=True).astype(dict.fromkeys(("labels", "split", "image"), "category"))
    if not encoder.has_cls:
        table = without_cls(table)
    return {"knn_probe": with_columns(table, {"metric": "top1", "protocol": PROTOCOL})}


def _rows(nearest: Nearest, split: Split, kind: str, train: Split, temperature: float) -> pd.DataFrame:
    known, asked = train.labels[kind], split.labels[kind]
    labels = torch.from_numpy(known.numbers).to(nearest.places.device)
    named = vote(nearest.cosines, labels[nearest.places], len(known.classes), temperature)  # (S, M)
    correct = named.T.cpu().numpy() == asked.numbers[:, None]
    images = [f"{split.name}/{path}" for path in split.index.paths]
    rows = image_rows(correct, images, split.name, kind, len(known.classes))
    return rows.assign(chance=constant_guess(known, asked))


def _features(job: Job, encoder: Encoder, split: Split) -> Iterator[Tensor]:
    """Batches (S, B, D) of length 1, in the order of the split."""
    analysis, size = job.study.analysis, encoder.spec.image_size
    positions = np.arange(len(split.index))
    pixels = batches(split.index, positions, size, analysis.crop_fraction, analysis.batch_size, job.threads)
    with progress(total=len(positions), desc=f"features {job.evaluated.name}, {split.name}", unit="image") as bar:
        for batch in pixels:
            features = depth_features(encoder, batch, job.settings.final_norm).flatten(1, 2).transpose(0, 1)
            if not torch.isfinite(features).all():
                raise UserError(
                    f"features of {split.index.root} are not finite: the encoder has diverged, train it again"
                )
            yield normalize(features, dim=-1)
            bar.update(len(batch))
