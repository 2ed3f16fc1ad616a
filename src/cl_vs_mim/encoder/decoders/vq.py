"""The decoder of a discrete tokenizer: a codebook, and a head that paints a patch from an entry (arXiv 1711.00937)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_vs_mim.encoder.decoders import Decoder, DecoderSpec
from cl_vs_mim.encoder.decoders.patches import unpatchify
from cl_vs_mim.encoder.spec import EncoderSpec

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder


class VQDecoder(Decoder):
    """The codebook of a discrete tokenizer, and the head that paints a patch from an entry."""

    def __init__(self, encoder: EncoderSpec, spec: DecoderSpec) -> None:
        super().__init__(encoder, spec)
        self.patch_size = encoder.patch_size
        self.project = nn.Linear(encoder.width, spec.width)
        self.head = nn.Sequential(
            nn.Linear(spec.width, encoder.width), nn.GELU(), nn.Linear(encoder.width, 3 * encoder.patch_size**2)
        )
        self.register_buffer("codebook", F.normalize(torch.randn(spec.codes, spec.width), dim=-1))  # (K, C)

    def vectors(self, tokens: Tensor) -> Tensor:
        """What is quantised: (B, 1+N, D), CLS first -> (B, N, C) of unit length."""
        return F.normalize(self.project(tokens[:, 1:]), dim=-1)

    def nearest(self, vectors: Tensor) -> Tensor:
        """The nearest entry of each vector: (B, N, C) -> (B, N) int64."""
        return (vectors @ self.codebook.T.to(vectors.dtype)).argmax(-1)

    def paint(self, vectors: Tensor) -> Tensor:
        """Patches from vectors: (B, N, C) -> (B, N, P*P*3)."""
        return self.head(vectors)

    @torch.no_grad()
    def reconstruct(self, encoder: Encoder, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The images as their codes tell them: (B, 3, S, S) normalised -> (B, 3, S, S). Nothing is hidden."""
        codes = self.nearest(self.vectors(encoder(images)))
        return unpatchify(self.paint(self.codebook[codes]), self.patch_size)


DECODER = VQDecoder
