"""SimMIM: masked image modelling by regressing raw pixels (Xie et al.; arXiv 2111.09886).

Large random squares of the image are replaced by a mask token; a one-layer head predicts their pixels from the
encoder's tokens, and the loss is the L1 distance on what was hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.decoders import DecoderSpec
from cl_vs_mim.encoder.decoders.simmim import SimMIMDecoder, on_grid, pixel_head
from cl_vs_mim.encoder.masks import block_mask
from cl_vs_mim.pretrain.distributed import own_rows
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

if TYPE_CHECKING:
    from cl_vs_mim.config import Model, Study
    from cl_vs_mim.encoder.model import Encoder

__all__ = ["SimMIM", "SimMIMConfig", "block_mask", "masked_l1_loss"]

# ------------------------------------------------------------------------------------------------
# Configuration
# ------------------------------------------------------------------------------------------------


class SimMIMConfig(ObjectiveConfig):
    """SimMIM (Xie et al., arXiv 2111.09886): masked L1 regression of pixels by a one-layer head."""

    paints = True

    method: Literal["simmim"]
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]
    mask_unit: PositiveInt  # patches along a side of one masked square (the original: 32 px at patch 16 = 2)
    views: tuple[View]

    def check(self, model: Model, study: Study) -> None:
        """Whole squares cover the grid."""
        grid = study.architectures[model.architecture].spec().grid
        if grid % self.mask_unit:
            raise ValueError(
                f"objective.mask_unit: {self.mask_unit} patches do not tile the {grid}x{grid} grid of "
                f"{model.architecture!r}"
            )

    def draw_mask(self, grid: int, generator: torch.Generator) -> Tensor:
        """Squares."""
        return block_mask(1, grid, self.mask_unit, self.mask_ratio, generator)


# ------------------------------------------------------------------------------------------------
# Mask and loss
# ------------------------------------------------------------------------------------------------


def masked_l1_loss(images: Tensor, reconstruction: Tensor, patch_mask: Tensor) -> Tensor:
    """Mean absolute error per hidden pixel and channel (arXiv 2111.09886, equation 1).

    Args:
        images: (B, C, S, S), normalised.
        reconstruction: (B, C, S, S).
        patch_mask: (B, grid, grid) in {0, 1}; 1 is hidden.

    Returns:
        Scalar. The number of hidden pixels is taken plus 1e-5, as in the original, so an empty mask gives 0.
    """
    patch = images.shape[-1] // patch_mask.shape[-1]
    mask = patch_mask.to(images.dtype).repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)  # (B, S, S)
    error = (images - reconstruction).abs().sum(dim=1)  # (B, S, S)
    return (error * mask).sum() / (mask.sum() + 1e-5) / images.shape[1]


# ------------------------------------------------------------------------------------------------
# Objective
# ------------------------------------------------------------------------------------------------


class SimMIM(Objective):
    """SimMIM around an encoder; mask token and head are exported beside it, for pictures of what they paint."""

    Config = SimMIMConfig
    splits_batches = True

    def __init__(self, encoder: Encoder, config: SimMIMConfig) -> None:
        super().__init__(encoder, config.views, config.decays)
        spec = encoder.spec
        self.mask_ratio, self.mask_unit = config.mask_ratio, config.mask_unit
        self.mask_token = nn.Parameter(torch.empty(1, 1, spec.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.decoder = pixel_head(spec)

    def forward(self, views: list[Tensor], generator: torch.Generator | None) -> ObjectiveOutput:
        """Masked L1 loss of one view (B, 3, S, S); the masks are drawn by ``generator``."""
        (images,) = views
        grid = self.encoder.spec.grid
        mask = own_rows(len(images), lambda count: block_mask(count, grid, self.mask_unit, self.mask_ratio, generator))
        mask = mask.to(images.device, non_blocking=True)
        tokens = self.encoder(images, mask, self.mask_token)[:, 1:]  # (B, N, D)
        loss = masked_l1_loss(images, self.decode(tokens).float(), mask)
        return ObjectiveOutput(loss, tokens.detach().mean(dim=1), {})

    def decode(self, tokens: Tensor) -> Tensor:
        """Pixels from tokens: (B, N, D) -> (B, 3, S, S)."""
        return self.decoder(on_grid(tokens, self.encoder.spec.grid))

    def export_decoder(self) -> SimMIMDecoder:
        decoder = SimMIMDecoder(self.encoder.spec, DecoderSpec(method="simmim"))
        decoder.head.load_state_dict(self.decoder.state_dict())
        decoder.mask_token = self.mask_token
        return decoder

    def no_weight_decay(self) -> set[str]:
        """The mask token too."""
        return super().no_weight_decay() | {"mask_token"}


OBJECTIVE = SimMIM
