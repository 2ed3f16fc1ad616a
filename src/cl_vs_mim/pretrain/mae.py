"""MAE: masked autoencoding on visible patches (He et al.; arXiv 2111.06377).

The encoder sees a quarter of the patches; a small decoder gets its tokens and mask tokens at all other places and
predicts the pixels; the loss is the squared error on the hidden patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cl_vs_mim.config import MAEObjective
from cl_vs_mim.encoder.decoder import DecoderSpec, MAEDecoder, encode_visible, patch_statistics, patchify
from cl_vs_mim.encoder.masks import random_patches
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.pretrain.distributed import own_rows
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

__all__ = ["MAE", "masked_patch_loss", "patchify", "random_patches"]

# ------------------------------------------------------------------------------------------------
# Mask and loss
# ------------------------------------------------------------------------------------------------


def masked_patch_loss(images: Tensor, prediction: Tensor, mask: Tensor, patch_size: int, norm_pix: bool) -> Tensor:
    """Mean squared error per hidden patch.

    Args:
        images: (B, 3, S, S), normalised.
        prediction: (B, N, P*P*3).
        mask: (B, N) in {0, 1}; 1 is hidden.
        patch_size: P, px.
        norm_pix: compare with patches brought to mean 0 and variance 1 (unbiased, plus 1e-6), as the original does.

    Returns:
        Scalar.
    """
    target = patchify(images, patch_size)
    if norm_pix:
        mean, deviation = patch_statistics(target)
        target = (target - mean) / deviation
    error = (prediction - target).square().mean(-1)  # (B, N)
    return (error * mask).sum() / mask.sum()


# ------------------------------------------------------------------------------------------------
# Objective
# ------------------------------------------------------------------------------------------------


class MAE(Objective):
    """MAE around an encoder of the plain family; the decoder is exported beside the encoder."""

    splits_batches = True

    def __init__(self, encoder: Encoder, config: MAEObjective) -> None:
        super().__init__(encoder, config.views)
        self.mask_ratio = config.mask_ratio
        spec = DecoderSpec(
            method="mae",
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
            norm_pix=config.norm_pix,
        )
        self.decoder = MAEDecoder(encoder.spec, spec)

    def forward(self, views: list[Tensor], generator: torch.Generator | None) -> ObjectiveOutput:
        """Loss on the hidden patches of one view (B, 3, S, S); what is hidden is drawn by ``generator``."""
        (images,) = views
        spec = self.encoder.spec
        count = spec.grid**2
        visible = own_rows(len(images), lambda rows: random_patches(rows, count, self.mask_ratio, generator)[0])
        visible = visible.to(images.device, non_blocking=True)
        mask = torch.ones(len(images), count, device=images.device).scatter_(1, visible, 0.0)
        tokens = encode_visible(self.encoder, images, visible)  # (B, 1+V, D)
        prediction = self.decoder(tokens, visible).float()
        loss = masked_patch_loss(images, prediction, mask, spec.patch_size, self.decoder.spec.norm_pix)
        return ObjectiveOutput(loss, tokens.detach()[:, 1:].mean(dim=1), {})

    def export_decoder(self) -> MAEDecoder:
        return self.decoder

    def no_weight_decay(self) -> set[str]:
        """The decoder's mask token too."""
        return super().no_weight_decay() | {"decoder.mask_token"}
