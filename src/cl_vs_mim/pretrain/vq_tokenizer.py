"""The discrete tokenizer that BEiT predicts: a small vector-quantised autoencoder (VQ-VAE; arXiv 1711.00937).

A shallow encoder turns every patch into a vector of unit length, the nearest entry of a codebook replaces it, and a
small head paints the patch from that entry. BEiT used DALL-E's published tokenizer; this one is trained by the
pipeline, so that no foreign weights are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.sections import Fraction, NonNegative
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.decoders import DecoderSpec
from cl_vs_mim.encoder.decoders.patches import patchify
from cl_vs_mim.encoder.decoders.vq import VQDecoder
from cl_vs_mim.pretrain.distributed import gather_rows
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder

_RARE = 0.05  # of its fair share of uses: an entry used less is moved to where patches are


class VQTokenizerConfig(ObjectiveConfig):
    """A discrete tokenizer of patches (van den Oord et al., arXiv 1711.00937), for BEiT to predict."""

    trains_tokenizer = True

    method: Literal["vq_tokenizer"]
    codes: PositiveInt  # entries of the codebook (DALL-E's: 8192)
    code_width: PositiveInt
    commitment: NonNegative = 0.25
    momentum: Fraction = 0.99  # of the running means that the codebook follows
    views: tuple[View]


class VQTokenizer(Objective):
    """Reconstruction plus commitment; the codebook follows the vectors as running means (arXiv 1711.00937, A.1)."""

    Config = VQTokenizerConfig

    def __init__(self, encoder: Encoder, config: VQTokenizerConfig) -> None:
        super().__init__(encoder, config.views)
        self.config = config
        spec = DecoderSpec(method="vq", width=config.code_width, codes=config.codes)
        self.decoder = VQDecoder(encoder.spec, spec)
        self.register_buffer("uses", torch.ones(config.codes))
        self.register_buffer("sums", self.decoder.codebook.clone())

    def forward(self, views: list[Tensor], generator: torch.Generator | None) -> ObjectiveOutput:
        """Loss of one view (B, 3, S, S); rare entries of the codebook are moved to vectors that ``generator`` picks."""
        (images,) = views
        tokens = self.encoder(images)
        vectors = self.decoder.vectors(tokens)  # (B, N, C), unit length
        codes = self.decoder.nearest(vectors)  # (B, N)
        entries = self.decoder.codebook[codes]
        through = vectors + (entries - vectors).detach()  # the gradient passes the choice by
        painted = self.decoder.paint(through).float()  # (B, N, P*P*3)
        error = F.mse_loss(painted, patchify(images, self.encoder.spec.patch_size))
        commitment = F.mse_loss(vectors.float(), entries.float())
        shares = torch.bincount(codes.flatten(), minlength=self.config.codes).float() / codes.numel()
        if self.training:
            self._follow(vectors.detach().float().flatten(0, 1), codes.flatten(), generator)
        metrics = {"reconstruction": float(error.detach()), "perplexity": float(torch.special.entr(shares).sum().exp())}
        return ObjectiveOutput(error + self.config.commitment * commitment, tokens.detach()[:, 1:].mean(1), metrics)

    @torch.no_grad()
    def _follow(self, vectors: Tensor, codes: Tensor, generator: torch.Generator | None) -> None:
        """Move every entry towards the mean of the vectors that chose it, in all processes alike."""
        vectors, _ = gather_rows(vectors)
        codes, _ = gather_rows(codes)
        momentum, count = self.config.momentum, self.config.codes
        chosen = torch.bincount(codes, minlength=count).float()
        self.uses.mul_(momentum).add_(chosen, alpha=1 - momentum)
        summed = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        self.sums.mul_(momentum).add_(summed, alpha=1 - momentum)
        rare = self.uses < _RARE * len(codes) / count
        picks = torch.randint(len(vectors), (count,), generator=generator).to(vectors.device)
        self.sums[rare] = vectors[picks[rare]]
        self.uses[rare] = 1.0
        self.decoder.codebook.copy_(F.normalize(self.sums, dim=-1))

    def export_decoder(self) -> VQDecoder:
        return self.decoder


OBJECTIVE = VQTokenizer
