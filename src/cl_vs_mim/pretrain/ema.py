"""Moving averages of weights: MoCo v3's momentum encoder, DINO's teacher, the mean of a fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


def rising_momentum(start: float, progress: float) -> float:
    """The momentum after a share of training (0 … 1): from ``start`` to 1 on a half cosine."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def follow(followers: Sequence[nn.Module], leaders: Sequence[nn.Module], momentum: float) -> None:
    """Move every weight of the followers towards the leaders', in place: the share ``momentum`` of it stays.

    Args:
        followers: modules that move; buffers such as running statistics stay as they are.
        leaders: modules with the same parameters, in the same order.
        momentum: 0 copies the leaders, 1 leaves the followers where they are.
    """
    towards = [parameter for module in leaders for parameter in module.parameters()]
    moved = [parameter for module in followers for parameter in module.parameters()]
    torch._foreach_lerp_(moved, towards, 1 - momentum)
