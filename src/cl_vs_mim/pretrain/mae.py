"""MAE: masked autoencoding on visible patches (He et al.; arXiv 2111.06377).

The encoder sees a quarter of the patches; a small decoder gets its tokens and mask tokens at all other places and
predicts the pixels; the loss is the squared error on the hidden patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.decoders import DecoderSpec
from cl_vs_mim.encoder.decoders.mae import MAEDecoder, encode_visible
from cl_vs_mim.encoder.decoders.patches import patch_statistics, patchify
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.encoder.masks import random_patches
from cl_vs_mim.pretrain.distributed import own_rows
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

if TYPE_CHECKING:
    from cl_vs_mim.config import Model, Study
    from cl_vs_mim.encoder.model import Encoder

__all__ = ["MAE", "MAEConfig", "masked_patch_loss", "patchify", "random_patches"]

# ------------------------------------------------------------------------------------------------
# Configuration
# ------------------------------------------------------------------------------------------------


class MAEConfig(ObjectiveConfig):
    """MAE (He et al., arXiv 2111.06377): squared error on hidden patches, by a decoder behind the encoder."""

    paints = True
    deep_decoder = True

    method: Literal["mae"]
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]  # of the patches, one by one (the original: 0.75)
    norm_pix: bool = True  # targets with mean 0 and variance 1 in each patch
    decoder_width: PositiveInt  # the original: 512
    decoder_depth: PositiveInt  # the original: 8
    decoder_heads: PositiveInt  # the original: 16
    views: tuple[View]

    @model_validator(mode="after")
    def _heads_divide(self) -> MAEConfig:
        if self.decoder_width % self.decoder_heads or self.decoder_width % 4:
            raise ValueError(
                f"decoder_width {self.decoder_width} is not a multiple of decoder_heads {self.decoder_heads} and of 4"
            )
        return self

    def check(self, model: Model, study: Study) -> None:
        """Patches that are dropped take their positions with them."""
        family = study.architectures[model.architecture].family
        if not FAMILIES[family].absolute:
            raise ValueError(
                "objective.method: mae drops patches, which relative positions do not allow; "
                f"{model.architecture!r} is of family {family}"
            )

    def of_decoder(self) -> dict[str, Any]:
        """Its heads, and whether it paints normalised patches."""
        return {"num_heads": self.decoder_heads, "norm_pix": self.norm_pix}

    def draw_mask(self, grid: int, generator: torch.Generator) -> Tensor:
        """Single patches."""
        _, mask = random_patches(1, grid**2, self.mask_ratio, generator)
        return mask.view(1, grid, grid)


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

    Config = MAEConfig
    splits_batches = True

    def __init__(self, encoder: Encoder, config: MAEConfig) -> None:
        super().__init__(encoder, config.views, config.decays)
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


OBJECTIVE = MAE
