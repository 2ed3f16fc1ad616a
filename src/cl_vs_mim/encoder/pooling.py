"""One vector an image from the tokens of its patches."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Pooling = Literal["cls", "mean"]


def pool(tokens: Tensor, pooling: Pooling) -> Tensor:
    """The CLS token, or the mean of the patches' tokens: (B, 1+N, D) -> (B, D)."""
    return tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(1)
