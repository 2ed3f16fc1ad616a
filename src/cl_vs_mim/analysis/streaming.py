"""Metrics that are fed block by block and keep one number per image, block and head. Maps are never stored.

A ViT-B's twelve maps are 22 MB an image; the values kept of them are 1 kB. A metric reduces the maps on the device
while the block that made them is the only one alive (:meth:`cl_vs_mim.encoder.Encoder.trace`), so memory does
not depend on the number of images, and intervals can still be bootstrapped over them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.analysis.attention import attention_distance, attention_entropy, normalized_mutual_information
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder import BlockTrace, Encoder

# ------------------------------------------------------------------------------------------------
# Metrics
# ------------------------------------------------------------------------------------------------


class StreamingMetric(ABC):
    """Values of one metric for all images, blocks and heads, gathered batch by batch.

    A subclass gives it a name and says what is measured in one block.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._blocks: list[_Values] = []

    @abstractmethod
    def measure(self, trace: BlockTrace) -> Tensor:
        """One value per image and head, (B, H), of one block."""

    def update(self, trace: BlockTrace) -> Tensor:
        """Add one block of one batch; returns what was added, (B, H). Batches come in the order of the images."""
        values = self.measure(trace)
        while len(self._blocks) <= trace.block:
            self._blocks.append(_Values())
        self._blocks[trace.block].append(values)
        return values

    def result(self) -> np.ndarray:
        """(M, L, H) float64: image, block, head.

        Raises:
            ValueError: nothing was added, or the blocks have seen different numbers of images.
        """
        if not self._blocks:
            raise ValueError(f"{self.name}: no batch has been added")
        counts = [block.count for block in self._blocks]
        if len(set(counts)) > 1:
            raise ValueError(f"{self.name}: blocks have seen {counts} images")
        return torch.stack([block.values().double().cpu() for block in self._blocks], dim=1).numpy()


class _Values:
    """A tensor on the device that grows at its end by doubling.

    One small tensor kept per batch would lie between the large ones that come and go and hold the heap apart: a pass
    over 1,000 images of 145 tokens then took 700 MB more than one over 64.
    """

    def __init__(self) -> None:
        self.count = 0
        self._buffer: Tensor | None = None  # (capacity, …)

    def append(self, values: Tensor) -> None:
        needed = self.count + len(values)
        capacity = 0 if self._buffer is None else len(self._buffer)
        if needed > capacity:
            with torch.inference_mode(False):  # a plain tensor, writable in and out of inference mode
                size = (max(needed, 2 * capacity), *values.shape[1:])
                grown = torch.empty(size, dtype=values.dtype, device=values.device)
            if self.count:
                grown[: self.count] = self.values()
            self._buffer = grown
        self._buffer[self.count : needed] = values.detach()
        self.count = needed

    def values(self) -> Tensor:
        return self._buffer[: self.count]


class AttentionDistance(StreamingMetric):
    """Figure 3, in pixels of the input."""

    name = "attention_distance"

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def measure(self, trace: BlockTrace) -> Tensor:
        return attention_distance(trace.attention, self.patch_size)


class NormalizedMutualInformation(StreamingMetric):
    """Figure 4, between 0 and 1."""

    name = "nmi"

    def measure(self, trace: BlockTrace) -> Tensor:
        return normalized_mutual_information(trace.attention)


class AttentionEntropy(StreamingMetric):
    """Beside Figure 4, between 0 (one key) and 1 (uniform)."""

    name = "attention_entropy"

    def measure(self, trace: BlockTrace) -> Tensor:
        return attention_entropy(trace.attention)


def attention_metrics(patch_size: int) -> list[StreamingMetric]:
    """All metrics of the attention maps, new and empty."""
    return [AttentionDistance(patch_size), NormalizedMutualInformation(), AttentionEntropy()]


# ------------------------------------------------------------------------------------------------
# The pass
# ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def stream(encoder: Encoder, batches: Iterable[Tensor], metrics: Sequence[StreamingMetric]) -> Iterator[int]:
    """Run the encoder once over all images and feed every metric; yields the number of images of each batch done.

    Args:
        encoder: in evaluation mode, on the device that shall do the work.
        batches: (B, 3, S, S) uint8 pixels each.
        metrics: fed in place.

    Raises:
        FloatingPointError: a value is not finite; its arguments are the metric's name, the position of the image
            among all, the block and the head, all counted from 0.
    """
    device = next(encoder.parameters()).device
    done = 0
    for images in batches:
        tokens = encoder.embed(normalise(images.to(device, non_blocking=True)))
        added = []
        for trace in encoder.trace(tokens):
            added += [(metric, trace.block, metric.update(trace)) for metric in metrics]
        _require_finite(added, done)
        done += len(images)
        yield len(images)


def _require_finite(added: Sequence[tuple[StreamingMetric, int, Tensor]], done: int) -> None:
    # One question to the device for the whole batch; the guilty value is only looked for when there is one.
    if torch.stack([torch.isfinite(values).all() for _, _, values in added]).all():
        return
    for metric, block, values in added:
        for image, head in torch.nonzero(~torch.isfinite(values)).tolist():
            raise FloatingPointError(metric.name, done + image, block, head)
