"""An encoder as the backbone of detection and segmentation: any image size, windows, features of several blocks.

Everything that pre-training shaped is kept: CLS, absolute positions, the shared relative position bias, LayerScale. At
the encoder's own image size and without windows the features are the encoder's own states; a test holds both families
to it, because a backbone that silently drops one of them still trains, only worse.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import resample_abs_pos_embed
from timm.layers.pos_embed_rel import gen_relative_position_index
from torch import Tensor, nn

from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.resize import resized_bias_table


class DenseEncoder(nn.Module):
    """Feature maps of an encoder on images of any whole number of patches.

    Windows are squares of patches, each with its own copy of CLS; the copies are averaged after the block. Blocks
    between ``window`` ones that attend to the whole image are ``global_blocks`` (ViTDet, arXiv 2203.16527, section 3).

    Args:
        encoder: ours, of either family; trained further in place.
        out_blocks: the blocks whose outputs are wanted, 0 … L-1, in rising order; a shallow encoder may repeat one.
        window: side of a window in patches; None: every block attends globally.
        global_blocks: blocks that attend globally where there are windows.

    Raises:
        ValueError: a block that the encoder does not have, or blocks out of order.
    """

    def __init__(
        self,
        encoder: Encoder,
        out_blocks: Sequence[int],
        window: int | None = None,
        global_blocks: Sequence[int] = (),
    ) -> None:
        super().__init__()
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
        backbone, patch = self.encoder.backbone, self.stride
        rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
        side = self.window or 1
        if images.shape[-2] % (patch * side) or images.shape[-1] % (patch * side):
            raise ValueError(
                f"images of {images.shape[-2]}x{images.shape[-1]} px are not whole windows of {side} patches of "
                f"{patch} px; pad them to a multiple of {patch * side} px"
            )
        patches = backbone.patch_embed.proj(images).flatten(2).transpose(1, 2)  # (B, N, D)
        cls = backbone.cls_token.expand(len(patches), -1, -1).to(patches.dtype)
        tokens = torch.cat([cls, patches], dim=1)
        if backbone.pos_embed is not None:
            tokens = tokens + resample_abs_pos_embed(backbone.pos_embed, [rows, columns], num_prefix_tokens=1)
        everywhere, inside = self._bias(rows, columns), None
        if self.window is not None:
            inside = self._bias(self.window, self.window)
        features = []
        for index, block in enumerate(backbone.blocks):
            if self.window is None or index in self.global_blocks:
                tokens = _apply(block, tokens, everywhere)
            else:
                tokens = _join(_apply(block, _cut(tokens, rows, columns, side), inside), rows, columns, side)
            wanted = self.out_blocks.count(index)
            features += [tokens[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))] * wanted
            if len(features) == len(self.out_blocks):
                break
        return features

    def _bias(self, rows: int, columns: int) -> Tensor | None:
        """The shared relative position bias for a grid (1, H, 1+N, 1+N), or None for absolute positions.

        Where the grid is that of pre-training, the table as it is; for other grids resampled (bicubic), as BEiT does.
        """
        shared = getattr(self.encoder.backbone, "rel_pos_bias", None)
        if shared is None:
            return None
        if (rows, columns) == tuple(shared.window_size):
            return shared()
        table = resized_bias_table(shared.relative_position_bias_table, rows, columns)
        index = gen_relative_position_index((rows, columns), class_token=True).to(table.device)
        return table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1).unsqueeze(0)


def _apply(block: nn.Module, tokens: Tensor, bias: Tensor | None) -> Tensor:
    return block(tokens) if bias is None else block(tokens, shared_rel_pos_bias=bias.to(tokens.dtype))


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
