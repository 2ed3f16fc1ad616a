"""Whether an encoder that somebody else trained is looked into rightly: the traced pass against the network's own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.model import Encoder

TOLERANCE = 1e-4  # of the largest difference, over the largest value


@torch.no_grad()
def require_same_answer(path: Path, encoder: Encoder) -> None:
    """Compare the last tokens of the traced pass with those of the fused forward on two random images.

    The forward is the network's own (timm's ``forward_features``), which shares with the traced pass neither the
    embedding nor the blocks' order nor the last LayerNorm; a backbone without one is asked by ``Encoder.forward``.

    Args:
        path: the file, for the error message.
        encoder: in evaluation mode.

    Raises:
        UserError: they differ by more than :data:`TOLERANCE`, or are not finite.
    """
    size = encoder.spec.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    wanted = encoder(images)
    if hasattr(encoder.backbone, "forward_features"):
        wanted = encoder.cls_and_patches(encoder.backbone.forward_features(encoder.own_scale(images)))
    tokens = encoder.embed(images)
    for trace in encoder.trace(tokens):
        last = trace.after_mlp
    difference = relative_difference(encoder.norm(last), wanted, encoder)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path}: what is seen inside this {encoder.spec.variant or encoder.spec.family} is not what the network "
            f"computes: the last tokens differ by {difference:.1e} of the largest value, and {TOLERANCE:g} is allowed; "
            "its figures would be wrong, so it is refused"
        )


def relative_difference(found: Tensor, wanted: Tensor, encoder: Encoder) -> float:
    """The largest difference between tokens (B, 1+N, D), over the largest value; CLS counts where there is one."""
    first = 0 if encoder.has_cls else 1
    found, wanted = found[:, first:], wanted[:, first:]
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
