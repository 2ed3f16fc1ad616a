"""The plain ViT with fixed sin-cos or learned absolute positions (MoCo v3, MAE, DINO, timm), on timm's class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.families import PreNormFamily
from cl_vs_mim.encoder.layers import require_grid, resampled, sincos_positions, timm_arguments
from cl_vs_mim.encoder.spec import EncoderSpec

_SAME = 1e-3  # largest difference at which a published table of positions counts as the sin-cos one


class ViT(PreNormFamily):
    """A plain ViT.

    It is initialised as MoCo v3 does it: Xavier for Q, K and V apart, and for the patch projection (arXiv 2104.02057,
    code).
    """

    positions = ("sincos", "learned")

    def check(self, spec: EncoderSpec) -> None:
        super().check(spec)
        if spec.positions == "sincos" and spec.width % 4:
            raise ValueError(f"sin-cos positions need a width divisible by 4, not {spec.width}")

    def build(self, spec: EncoderSpec) -> nn.Module:
        from timm.models.vision_transformer import VisionTransformer

        backbone = VisionTransformer(weight_init="moco", **timm_arguments(spec))
        projection = backbone.patch_embed.proj
        bound = math.sqrt(6 / (3 * spec.patch_size**2 + spec.width))
        nn.init.uniform_(projection.weight, -bound, bound)
        nn.init.zeros_(projection.bias)
        if spec.positions == "sincos":
            backbone.pos_embed = sincos_positions(spec.grid, spec.width)
        return backbone

    def resampled_positions(self, backbone: nn.Module, rows: int, columns: int) -> Tensor:
        """Bicubic on another grid, as in DINO.

        Also positions of sines and cosines, which at the encoder's own scale would place the new patches where no
        patch was during training.
        """
        return resampled(backbone.pos_embed, rows, columns)

    def queries_keys_values(self, attention: nn.Module, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, _ = tokens.shape
        qkv = nn.functional.linear(tokens, attention.qkv.weight, attention.qkv.bias)
        q, k, v = qkv.reshape(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
        return attention.q_norm(q), attention.k_norm(k), v

    def residual(self, block: nn.Module, half: int, update: Tensor) -> Tensor:
        return getattr(block, f"ls{half}")(update)

    def resized(self, name: str, value: Tensor, new: Tensor, grid: int) -> Tensor:
        if name == "pos_embed":
            return resampled(value, grid, grid)
        return value

    def exact(self, spec: EncoderSpec) -> frozenset[str]:
        return frozenset({"pos_embed"}) if spec.positions == "sincos" else frozenset()

    def read_positions(self, path: Path, tensors: Mapping[str, Tensor], grid: int, heads: int) -> str:
        table = tensors.get("pos_embed")
        if table is None:
            raise UserError(f"{path} has no pos_embed; its positions are not those of a plain ViT")
        require_grid(path, table, grid)
        width = table.shape[2]
        if width % 4:
            return "learned"
        rows_first = sincos_positions(grid, width).data  # MoCo v3
        columns_first = rows_first.roll(width // 2, dims=-1)  # MAE
        fixed = any(torch.allclose(table.float(), known, atol=_SAME) for known in (rows_first, columns_first))
        return "sincos" if fixed else "learned"


FAMILY = ViT()
