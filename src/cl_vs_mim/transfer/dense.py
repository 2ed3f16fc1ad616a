"""An encoder as the backbone of detection and segmentation: any image size, windows, features of several blocks.

Everything that pre-training shaped is kept: CLS, absolute positions, the shared relative position bias, LayerScale. At
the encoder's own image size and without windows the features are the encoder's own states; a test holds both families
to it, because a backbone that silently drops one of them still trains, only worse.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.families import Family
from cl_vs_mim.encoder.model import Encoder


class DenseEncoder(nn.Module):
    """Feature maps of an encoder on images of any whole number of patches.

    Windows are squares of patches, each with its own copy of CLS; the copies are averaged after the block. Blocks
    between ``window`` ones that attend to the whole image are ``global_blocks`` (ViTDet, arXiv 2203.16527, section 3).

    Args:
        encoder: an encoder of any family; trained further in place.
        out_blocks: the blocks whose outputs are wanted, 0 … L-1, in rising order; a shallow encoder may repeat one.
        window: side of a window in patches; None: every block attends globally.
        global_blocks: blocks that attend globally where there are windows.

    Raises:
        ValueError: a block that the encoder does not have, or blocks out of order.
        UserError: an encoder of a family that takes images of one size only.
    """

    def __init__(
        self,
        encoder: Encoder,
        out_blocks: Sequence[int],
        window: int | None = None,
        global_blocks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not encoder.family.any_size:
            raise UserError(
                f"dense tasks take images of other sizes, which encoders of family {encoder.spec.family!r} do not"
            )
        depth = encoder.spec.depth
        outside = [block for block in (*out_blocks, *global_blocks) if not 0 <= block < depth]
        if outside or list(out_blocks) != sorted(out_blocks) or not out_blocks:
            raise ValueError(f"blocks {list(out_blocks)} and {list(global_blocks)} do not fit an encoder of {depth}")
        self.encoder = encoder
        self.out_blocks, self.window, self.global_blocks = tuple(out_blocks), window, frozenset(global_blocks)

    @property
    def stride(self) -> int:
        """Pixels between features: the patch size."""
        return self.encoder.spec.patch_size

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised -> for each of ``out_blocks`` (B, D, H/P, W/P).

        Raises:
            ValueError: H or W is not whole patches, or not whole windows.
        """
        family, backbone, patch = self.encoder.family, self.encoder.backbone, self.stride
        rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
        side = self.window or 1
        if images.shape[-2] % (patch * side) or images.shape[-1] % (patch * side):
            raise ValueError(
                f"images of {images.shape[-2]}x{images.shape[-1]} px are not whole windows of {side} patches of "
                f"{patch} px; pad them to a multiple of {patch * side} px"
            )
        tokens = self.encoder.embed_any_size(images)
        everywhere, inside = family.bias(backbone, rows, columns), None
        if self.window is not None:
            inside = family.bias(backbone, self.window, self.window)
        features = []
        for index, block in enumerate(self.encoder.blocks):
            if self.window is None or index in self.global_blocks:
                tokens = _apply(family, block, tokens, family.of_block(everywhere, index))
            else:
                windows = _apply(family, block, _cut(tokens, rows, columns, side), family.of_block(inside, index))
                tokens = _join(windows, rows, columns, side)
            wanted = self.out_blocks.count(index)
            features += [tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))] * wanted
            if len(features) == len(self.out_blocks):
                break
        return features


def _apply(family: Family, block: nn.Module, tokens: Tensor, bias: Tensor | None) -> Tensor:
    """One block, the bias in the precision that the tokens have there."""
    return family.apply(block, tokens, None if bias is None else bias.to(tokens.dtype))


def _cut(tokens: Tensor, rows: int, columns: int, side: int) -> Tensor:
    """(B, 1+N, D) -> (B * windows, 1 + side^2, D), CLS copied into each."""
    batch, _, width = tokens.shape
    cls, patches = tokens[:, :1], tokens[:, 1:]
    patches = patches.reshape(batch, rows // side, side, columns // side, side, width).transpose(2, 3)
    patches = patches.reshape(-1, side**2, width)
    return torch.cat([cls.repeat_interleave(len(patches) // batch, dim=0), patches], dim=1)


def _join(tokens: Tensor, rows: int, columns: int, side: int) -> Tensor:
    """The way back; the copies of CLS are averaged."""
    windows = (rows // side) * (columns // side)
    width = tokens.shape[-1]
    batch = len(tokens) // windows
    cls = tokens[:, 0].reshape(batch, windows, width).mean(dim=1, keepdim=True)
    patches = tokens[:, 1:].reshape(batch, rows // side, columns // side, side, side, width).transpose(2, 3)
    return torch.cat([cls, patches.reshape(batch, rows * columns, width)], dim=1)
