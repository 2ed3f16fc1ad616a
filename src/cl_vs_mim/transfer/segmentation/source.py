"""Training crops of scenes and their labels, as a function of the step: resized, cropped, mirrored, then coloured."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cl_vs_mim.config import View
from cl_vs_mim.core.randomness import generator_for
from cl_vs_mim.data.ade20k import IGNORED, SceneSplit, open_pair
from cl_vs_mim.data.augment import Draws, draw, render
from cl_vs_mim.pretrain.data import batch_positions
from cl_vs_mim.pretrain.sources import read_ahead
from cl_vs_mim.transfer.segmentation.settings import Segmentation

_ATTEMPTS = 10  # at a crop that one category does not fill, as in mmseg


class SceneSource:
    """Batches for :class:`cl_vs_mim.pretrain.trainer.Trainer`: one view (b, 3, S, S), and labels (b, S, S) int64.

    Args:
        split: the training images.
        settings: crops and colours; ``training.images`` says whether pictures are kept or read again by ``workers``.
        seed: seeds the order, crops and colours.
        watched_size: side of the squares that :meth:`first` gives, px.
        device: where the batches go.
        workers: processes that read ahead where pictures are not kept; any number gives the same batches.
    """

    def __init__(
        self,
        split: SceneSplit,
        settings: Segmentation,
        seed: int,
        watched_size: int,
        device: torch.device,
        workers: int,
    ) -> None:
        self.split, self.settings, self.seed = split, settings, seed
        self.watched_size, self.device, self.workers = watched_size, device, workers
        self.view = colour_view(settings)
        self._kept: _Crops | None = None
        self._ahead: Iterator | None = None
        self._next = -1

    def batch(self, step: int, rows: slice) -> tuple[list[Tensor], Tensor]:
        """See :class:`cl_vs_mim.pretrain.sources.Source`."""
        crops, labels, drawn = self._read(step, rows)
        size = self.settings.image_size
        view = render(crops.to(self.device, non_blocking=True), Draws(**drawn), self.view, size)
        return [view], labels.to(self.device, non_blocking=True).long()

    def _read(self, step: int, rows: slice) -> tuple[Tensor, Tensor, dict]:
        if self.settings.training.images == "memory":
            if self._kept is None:
                self._kept = _Crops(self.split, self.settings, self.seed, self.view, rows, keep=True)
            return self._kept[step]
        if self._ahead is None or step != self._next:
            files = _Crops(self.split, self.settings, self.seed, self.view, rows, keep=False)
            self._ahead = read_ahead(files, step, self.workers)
        self._next = step + 1
        return next(self._ahead)

    def first(self, count: int) -> Tensor:
        """See :class:`cl_vs_mim.pretrain.sources.Source`: whole pictures, squeezed into squares."""
        size = (self.watched_size, self.watched_size)
        pictures = [open_pair(self.split, n)[0].resize(size) for n in range(min(count, len(self.split)))]
        stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        return stacked.permute(0, 3, 1, 2).contiguous().to(self.device)


def colour_view(settings: Segmentation) -> View:
    """The part of the augmentation that moves no pixel."""
    names = ("jitter_probability", "brightness", "contrast", "saturation", "hue")
    return View(crop_scale=(1.0, 1.0), flip=0.0, **{name: getattr(settings, name) for name in names})


class _Crops(Dataset):
    """Item ``step``: crops (b, 3, S, S) uint8, labels (b, S, S) uint8, and how each crop is to be coloured."""

    def __init__(
        self, split: SceneSplit, settings: Segmentation, seed: int, view: View, rows: slice, keep: bool
    ) -> None:
        self.split, self.settings, self.seed, self.view, self.rows = split, settings, seed, view, rows
        self.open = lru_cache(maxsize=None)(self._open) if keep else self._open

    def _open(self, position: int) -> tuple[Image.Image, np.ndarray]:
        return open_pair(self.split, position)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, dict]:
        settings = self.settings
        batch, size = settings.training.batch_size, settings.image_size
        positions = batch_positions(step, len(self.split), batch, self.seed).tolist()
        crops, labels = [], []
        for row in range(batch)[self.rows]:
            generator = generator_for(self.seed, "scene", step, row)
            crop, label = random_crop(*self.open(positions[row]), settings, generator)
            crops.append(crop)
            labels.append(label)
        draws = draw(self.view, batch, size, size, generator_for(self.seed, "view", step, 0, 0)).part(self.rows)
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        return pixels.contiguous(), torch.from_numpy(np.stack(labels)), vars(draws.after_crop(size))


def random_crop(
    picture: Image.Image, labels: np.ndarray, settings: Segmentation, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Resize at random, cut a square, mirror half of the time.

    Args:
        picture: H x W.
        labels: (H, W) uint8.
        settings: range of scales, and how much of a crop one category may fill.
        generator: makes all draws.

    Returns:
        (S, S, 3) uint8 and (S, S) uint8; where the resized picture is smaller than the square, the rest is black and
        without label.
    """
    size = settings.image_size
    draws = torch.rand(2 + 2 * _ATTEMPTS, generator=generator).tolist()
    low, high = settings.scale_range
    scale = (low + (high - low) * draws[0]) * size / min(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    resized = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    for attempt in range(_ATTEMPTS):
        top = int(draws[2 + 2 * attempt] * (max(0, height - size) + 1))
        left = int(draws[3 + 2 * attempt] * (max(0, width - size) + 1))
        label = resized[top : top + size, left : left + size]
        counts = np.bincount(label[label != IGNORED].ravel())
        if (counts > 0).sum() > 1 and counts.max() < settings.category_max_ratio * counts.sum():
            break
    crop = np.zeros((size, size, 3), dtype=np.uint8)
    padded = np.full((size, size), IGNORED, dtype=np.uint8)
    cut = pixels[top : top + size, left : left + size]
    crop[: cut.shape[0], : cut.shape[1]] = cut
    padded[: label.shape[0], : label.shape[1]] = label
    if draws[1] < 0.5:
        crop, padded = crop[:, ::-1], padded[:, ::-1]
    return np.ascontiguousarray(crop), np.ascontiguousarray(padded)
