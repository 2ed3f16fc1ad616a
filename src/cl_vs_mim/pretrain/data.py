"""Which images of the training set make up which batch."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.randomness import generator_for


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
