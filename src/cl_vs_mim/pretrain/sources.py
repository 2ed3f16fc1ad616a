"""Where the views of a step come from: images kept in memory, or files that worker processes read ahead.

Both are functions of the step: which images, which crops and which colours follow from the seed, whatever was asked
for before and however many workers there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cl_vs_mim.config import View
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.pictures import open_rgb
from cl_vs_mim.core.randomness import generator_for
from cl_vs_mim.data.augment import Draws, augment, draw, render
from cl_vs_mim.data.images import ImageFolderIndex, decode_many
from cl_vs_mim.pretrain.carried import Carried, delivered
from cl_vs_mim.pretrain.data import batch_positions

_AHEAD = 4  # batches that each worker has ready
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Source(Protocol):
    """What the trainer takes its batches from."""

    def batch(self, step: int, rows: slice) -> tuple[list[Tensor], Tensor]:
        """Views of the images ``rows`` of a step's batch, (b, 3, S, S) float32 each, and their classes (b,) int64."""

    def first(self, count: int) -> Tensor:
        """The first images of the training set, (count, 3, S, S) uint8, to be watched while training."""


class BatchPlan:
    """What both sources need to know of a run: its views, sizes and seed."""

    def __init__(self, views: tuple[View, ...], image_size: int, batch_size: int, seed: int) -> None:
        self.views, self.image_size, self.batch_size, self.seed = views, image_size, batch_size, seed

    def size(self, view: View) -> int:
        """Side of a view, px."""
        return view.size or self.image_size

    def generator(self, step: int, number: int) -> torch.Generator:
        """Makes all draws of one view of a step."""
        return generator_for(self.seed, "view", step, 0, number)


# ------------------------------------------------------------------------------------------------
# In memory
# ------------------------------------------------------------------------------------------------


class MemorySource:
    """(M, 3, S, S) uint8 images on the device that trains, augmented there batch by batch; classes (M,) int64."""

    def __init__(self, images: Tensor, labels: Tensor, plan: BatchPlan) -> None:
        self.images, self.labels, self.plan = images, labels, plan

    def batch(self, step: int, rows: slice) -> tuple[list[Tensor], Tensor]:
        """See :class:`Source`."""
        plan, device = self.plan, self.images.device
        positions = batch_positions(step, len(self.images), plan.batch_size, plan.seed)
        chosen = self.images[positions[rows].to(device, non_blocking=True)]
        views = [
            augment(chosen, view, plan.size(view), plan.generator(step, number), rows, len(positions))
            for number, view in enumerate(plan.views)
        ]
        return views, self.labels[positions[rows]].to(device, non_blocking=True)

    def first(self, count: int) -> Tensor:
        """See :class:`Source`."""
        return self.images[:count]


def load_into_memory(index: ImageFolderIndex, image_size: int, device: torch.device) -> Tensor:
    """All images, (M, 3, S, S) uint8 on ``device``: decoded once, the centre square of each.

    Raises:
        UserError: they do not fit.
    """
    needed = len(index) * 3 * image_size**2
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > free:
        raise UserError(
            f"{len(index)} images of {image_size} px take {needed / 1e9:.1f} GB, and {device} has {free / 1e9:.1f} GB; "
            "set training.images to stream"
        )
    return decode_many(index, range(len(index)), image_size, bar=True).to(device)


# ------------------------------------------------------------------------------------------------
# From files
# ------------------------------------------------------------------------------------------------


class StreamSource:
    """Batches that ``workers`` processes read and crop ahead of the training; colours and blur come on the device."""

    def __init__(
        self, index: ImageFolderIndex, labels: np.ndarray, plan: BatchPlan, device: torch.device, workers: int
    ) -> None:
        self.index, self.labels = index, labels
        self.plan, self.device, self.workers = plan, device, workers
        self._batches: Iterator | None = None
        self._next = -1

    def batch(self, step: int, rows: slice) -> tuple[list[Tensor], Tensor]:
        """See :class:`Source`. Steps in their order are read ahead; a jump starts the workers anew."""
        if self._batches is None or step != self._next:
            files = _Batches(self.index, self.labels, self.plan, rows)
            self._batches = read_ahead(files, step, self.workers, pinned=self.device.type == "cuda")
        crops, draws, labels = next(self._batches)
        self._next = step + 1
        views = [
            render(crop.to(self.device, non_blocking=True), Draws(**drawn), view, self.plan.size(view))
            for crop, drawn, view in zip(crops, draws, self.plan.views, strict=True)
        ]
        return views, labels.to(self.device, non_blocking=True)

    def first(self, count: int) -> Tensor:
        """See :class:`Source`."""
        return decode_many(self.index, range(min(count, len(self.index))), self.plan.image_size).to(self.device)


def read_ahead(files: Dataset, step: int, workers: int, *, pinned: bool = False) -> Iterator:
    """The items ``step``, ``step + 1``, … of ``files``, each a whole batch, made by worker processes ahead of need.

    Args:
        files: the batches of all steps; pickled once for each worker.
        step: the first one.
        workers: processes.
        pinned: whether they come in memory from which a GPU copies faster.
    """
    loader = DataLoader(
        Carried(files),
        batch_size=None,  # an item is a whole batch
        sampler=range(step, 2**62),
        num_workers=workers,
        prefetch_factor=_AHEAD,
        pin_memory=pinned,
        multiprocessing_context="spawn",  # forked children of a process with threads may hang
    )
    return map(delivered, loader)


class _Batches(Dataset):
    """Item ``step``: crops (b, 3, S, S) uint8 of every view, what is left to be done to each, and classes."""

    def __init__(self, index: ImageFolderIndex, labels: np.ndarray, plan: BatchPlan, rows: slice) -> None:
        self.index, self.labels, self.plan, self.rows = index, labels, plan, rows

    def __getitem__(self, step: int) -> tuple[list[Tensor], list[dict], Tensor]:
        plan = self.plan
        positions = batch_positions(step, len(self.index), plan.batch_size, plan.seed)
        own = positions[self.rows].tolist()
        pictures = [open_rgb(self.index.root / self.index.paths[position]) for position in own]
        source = torch.ones(len(positions), 2)  # draws are made for the whole batch; other rows are not looked at
        source[self.rows] = torch.tensor([[picture.height, picture.width] for picture in pictures]).float()
        crops, rest = [], []
        for number, view in enumerate(plan.views):
            size = plan.size(view)
            draws = draw(view, len(positions), source, size, plan.generator(step, number)).part(self.rows)
            boxes = draws.box.tolist()
            crops.append(torch.stack([_crop(*pair, view, size) for pair in zip(pictures, boxes, strict=True)]))
            rest.append(vars(draws.after_crop(size)))
        return crops, rest, torch.from_numpy(self.labels[own])


def _crop(picture: Image.Image, box: list[float], view: View, size: int) -> Tensor:
    """Cut ``box`` (top, left, height, width) and resize it, antialiased: (3, size, size) uint8."""
    top, left, height, width = box
    # cut first: Pillow's own box argument lets pixels from outside into the edges
    cut = picture.crop((int(left), int(top), int(left + width), int(top + height)))
    resized = cut.resize((size, size), _RESAMPLING[view.interpolation])
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)


def make_source(
    index: ImageFolderIndex, labels: np.ndarray, images: str, plan: BatchPlan, device: torch.device, workers: int
) -> MemorySource | StreamSource:
    """The source that ``training.images`` names; ``labels`` (M,) int64 are what the images are called."""
    if images == "stream":
        return StreamSource(index, labels, plan, device, workers)
    decoded = load_into_memory(index, plan.image_size, device)
    return MemorySource(decoded, torch.from_numpy(labels), plan)
