"""Metrics that are fed block by block and keep a few numbers per image and depth. Maps are never stored.

A ViT-B's twelve maps are 22 MB an image; the values kept of them are 1 kB. A metric reduces the maps on the device
while the block that made them is the only one alive (:meth:`cl_vs_mim.encoder.model.Encoder.trace`), so memory does
not depend on the number of images, and intervals can still be bootstrapped over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import BlockTrace, Encoder

# ------------------------------------------------------------------------------------------------
# Streams
# ------------------------------------------------------------------------------------------------


class _Stream:
    """Values of one metric for all images and depths, gathered batch by batch."""

    def __init__(self, name: str, spacing: float, first: float) -> None:
        self.name = name
        self._spacing, self._first = spacing, first
        self._slots: list[_Values] = []

    def depths(self) -> np.ndarray:
        """The depth of each slot of :meth:`result`, (S,), in blocks."""
        return self._first + self._spacing * np.arange(len(self._slots))

    def result(self) -> np.ndarray:
        """(M, S, …) float64: image, depth, and what the metric gives for one image at one depth.

        Raises:
            ValueError: nothing was added, or the depths have seen different numbers of images.
        """
        if not self._slots:
            raise ValueError(f"{self.name}: no batch has been added")
        counts = [slot.count for slot in self._slots]
        if len(set(counts)) > 1:
            raise ValueError(f"{self.name}: depths have seen {counts} images")
        return torch.stack([slot.values().double().cpu() for slot in self._slots], dim=1).numpy()

    def _add(self, slot: int, values: Tensor) -> Tensor:
        while len(self._slots) <= slot:
            self._slots.append(_Values())
        self._slots[slot].append(values)
        return values


class BlockStream(_Stream):
    """A metric of what happens inside each block; depths 1 … L."""

    def __init__(self, name: str, measure: Callable[[BlockTrace], Tensor]) -> None:
        """Begin an empty stream.

        Args:
            name: the metric's name.
            measure: what one block of one batch gives: (B, …), for most metrics one value per image, (B,), or per
                image and head, (B, H).
        """
        super().__init__(name, spacing=1.0, first=1.0)
        self._measure = measure

    def update(self, trace: BlockTrace) -> Tensor:
        """Add one block of one batch; returns what was added. Batches come in the order of the images."""
        return self._add(trace.block, self._measure(trace))


class TokenStream(_Stream):
    """A metric of the tokens: of the embedding, then after every half block; depths 0, 0.5, 1 … L."""

    def __init__(self, name: str, measure: Callable[[Tensor], Tensor], every: int = 1) -> None:
        """Begin an empty stream.

        Args:
            name: the metric's name.
            measure: what tokens (B, 1+N, D), CLS first, give: (B, …).
            every: 2 leaves out what is in the middle of blocks; depths 0, 1 … L.
        """
        super().__init__(name, spacing=every / 2, first=0.0)
        self._measure, self.every = measure, every

    def update(self, state: int, tokens: Tensor) -> Tensor:
        """Add state 0 … 2L of one batch; returns what was added. Batches come in the order of the images."""
        return self._add(state // self.every, self._measure(tokens))


Stream = BlockStream | TokenStream


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
        assert self._buffer is not None
        self._buffer[self.count : needed] = values.detach()
        self.count = needed

    def values(self) -> Tensor:
        assert self._buffer is not None, "nothing has been added"
        return self._buffer[: self.count]


# ------------------------------------------------------------------------------------------------
# The pass
# ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def stream(encoder: Encoder, batches: Iterable[Tensor], metrics: Sequence[Stream]) -> Iterator[int]:
    """Run the encoder once over all images and feed every metric; yields the number of images of each batch done.

    Args:
        encoder: in evaluation mode, on the device that does the work.
        batches: (B, 3, S, S) uint8 pixels each.
        metrics: the streams, fed in place.

    Raises:
        FloatingPointError: a value is not finite; its arguments are the metric's name, the position of the image
            among all, counted from 0, and the depth.
    """
    device = next(encoder.parameters()).device
    of_blocks = [metric for metric in metrics if isinstance(metric, BlockStream)]
    of_states = [metric for metric in metrics if isinstance(metric, TokenStream)]
    done = 0
    for images in batches:
        tokens = encoder.embed(normalise(images.to(device, non_blocking=True)))
        first = encoder.cls_and_patches(tokens)
        added: list[tuple[Stream, float, Tensor]] = [(metric, 0.0, metric.update(0, first)) for metric in of_states]
        for trace in encoder.trace(tokens):
            block = trace.block
            added += [(metric, block + 1.0, metric.update(trace)) for metric in of_blocks]
            for half, state in ((1, trace.after_attention), (2, trace.after_mlp)):
                wanted = [metric for metric in of_states if half % metric.every == 0]
                added += [(metric, block + half / 2, metric.update(2 * block + half, state)) for metric in wanted]
        _require_finite(added, done)
        done += len(images)
        yield len(images)


def _require_finite(added: Sequence[tuple[Stream, float, Tensor]], done: int) -> None:
    # One question to the device for the whole batch; the guilty value is only looked for when there is one.
    if torch.stack([torch.isfinite(values).all() for _, _, values in added]).all():
        return
    for metric, depth, values in added:
        finite = torch.isfinite(values).reshape(len(values), -1).all(dim=1)
        for image in torch.nonzero(~finite).flatten().tolist():
            raise FloatingPointError(metric.name, done + image, depth)
