"""What a classifier predicts for images it has not been trained on, as rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import with_columns
from cl_vs_mim.data.images import ImageFolderIndex, normalise
from cl_vs_mim.evaluated import batches
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.splits import constant_guess, read_splits


@torch.no_grad()
def encoded(function: Callable[[Tensor], Tensor], index: ImageFolderIndex, job: Job) -> Tensor:
    """What a function of batches gives for every image of a split, (M, …) on the CPU.

    Args:
        function: (B, 3, S, S) normalised, on the job's device -> (B, …).
        index: M images.
        job: gives the size of images and batches, the crop and the device.
    """
    size, sample = job.architecture.image_size, job.study.analysis

    def chunks() -> Iterator[Tensor]:
        positions = np.arange(len(index))
        for images in batches(index, positions, size, sample.crop_fraction, sample.batch_size, job.threads):
            yield function(normalise(images.to(job.device))).cpu()

    total = math.ceil(len(index) / sample.batch_size)
    return torch.cat(list(progress(chunks(), total=total, desc=f"evaluate {index.root.name}", unit="batch")))


def prediction_rows(logits: Callable[[Tensor], Tensor], job: Job, *, depth: int, parameters: int) -> pd.DataFrame:
    """A row per image of every evaluated split: whether the prediction is right, 0 or 1, and the chance of a guess.

    Args:
        logits: (B, 3, S, S) normalised -> (B, K), in evaluation mode.
        job: a job whose settings have ``labels``, ``pooling`` and ``training``.
        depth: the block that is read, 1 … L.
        parameters: number of the encoder's parameters.
    """
    settings, kind = job.settings, job.settings.labels
    train_split, evaluated = read_splits(job.data, [kind])
    known = train_split.labels[kind]
    frames = []
    for split in evaluated:
        if kind not in split.labels:
            continue
        predicted = encoded(lambda images: logits(images).argmax(-1), split.index, job).numpy()
        columns = {
            **{"labels": kind, "classes": np.int32(len(known.classes)), "split": split.name},
            "image": [f"{split.name}/{path}" for path in split.index.paths],
            **{"depth": np.int32(depth), "pooling": settings.pooling},
            "learning_rate": settings.training.base_lr,
            "parameters": np.int64(parameters),
            "value": (predicted == split.labels[kind].numbers).astype(np.float64),
            "chance": constant_guess(known, split.labels[kind]),
        }
        frames.append(pd.DataFrame(columns))
    rows = pd.concat(frames, ignore_index=True)
    return with_columns(rows, {"metric": "top1", "protocol": job.task.name})
