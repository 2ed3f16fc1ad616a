"""One vector an image from its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from cl_vs_mim.core.errors import UserError

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder

Pooling = Literal["cls", "mean"]
POOLINGS: tuple[Pooling, ...] = ("cls", "mean")


def pool(tokens: Tensor, pooling: Pooling) -> Tensor:
    """The CLS token, or the mean of the patch tokens: (B, 1+N, D), CLS first -> (B, D).

    Which of them the paper's Figure 10 shows is UNKNOWN; SimMIM's own probe uses the mean.

    Raises:
        ValueError: tokens of another shape, or another pooling.
    """
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        raise ValueError(f"tokens (B, 1+N, D) are needed, not {tuple(tokens.shape)}")
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is one of {', '.join(POOLINGS)}, not {pooling!r}")
    return tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(1)


def require_pooling(encoder: Encoder, pooling: Pooling) -> None:
    """Raise :class:`UserError` where CLS is asked of an encoder that has none."""
    if pooling == "cls" and not encoder.has_cls:
        raise UserError(f"this {encoder.spec.variant or encoder.spec.family} has no CLS token; give pooling: mean")
