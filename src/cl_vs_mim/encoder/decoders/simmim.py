"""SimMIM's decoder: one linear layer; the mask tokens go through the encoder (Xie et al.; arXiv 2111.09886)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cl_vs_mim.encoder.decoders import Decoder, DecoderSpec
from cl_vs_mim.encoder.spec import EncoderSpec

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder


def pixel_head(encoder: EncoderSpec) -> nn.Sequential:
    """The layer: tokens on their grid (B, D, grid, grid) -> pixels (B, 3, S, S)."""
    patch = encoder.patch_size
    return nn.Sequential(nn.Conv2d(encoder.width, 3 * patch**2, kernel_size=1), nn.PixelShuffle(patch))


def on_grid(tokens: Tensor, grid: int) -> Tensor:
    """Patch tokens (B, N, D) as channels of an image, (B, D, grid, grid)."""
    return tokens.transpose(1, 2).unflatten(2, (grid, grid))


class SimMIMDecoder(Decoder):
    """SimMIM's mask token and one-layer head."""

    def __init__(self, encoder: EncoderSpec, spec: DecoderSpec) -> None:
        super().__init__(encoder, spec)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, encoder.width))
        self.head = pixel_head(encoder)

    @torch.no_grad()
    def reconstruct(self, encoder: Encoder, images: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`Decoder.reconstruct`."""
        tokens = encoder(images, mask, self.mask_token)[:, 1:]  # (B, N, D)
        return self.head(on_grid(tokens, mask.shape[1]))


DECODER = SimMIMDecoder
