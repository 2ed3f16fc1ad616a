"""The BEiT-like ViT (SimMIM, BEiT), on timm's class: no bias on the keys, and positions of one of two kinds.

``relative``: one relative position bias shared by all blocks, as SimMIM and BEiT of ImageNet-22K have it, with
LayerScale. ``learned``: absolute positions, as BEiT of ImageNet-1K has them, without LayerScale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.families import Family
from cl_vs_mim.encoder.layers import CLS_ROWS, require_grid, resampled, resized_table, timm_arguments
from cl_vs_mim.encoder.spec import EncoderSpec

_TABLE = "rel_pos_bias.relative_position_bias_table"
_INDEX = "rel_pos_bias.relative_position_index"


class BEiT(Family):
    """A BEiT-like ViT.

    It is initialised as BEiT does it: truncated normal, residual branches divided by sqrt(2 l) (arXiv 2106.08254).
    """

    positions = ("relative", "learned")
    absolute = False  # of neither kind for MAE and DINO, which need another initialisation anyway
    layer_scale = "blocks.0.gamma_1"

    def build(self, spec: EncoderSpec) -> nn.Module:
        from timm.models.beit import Beit

        relative = spec.positions == "relative"
        return Beit(use_abs_pos_emb=not relative, use_shared_rel_pos_bias=relative, **timm_arguments(spec))

    def resampled_positions(self, backbone: nn.Module, rows: int, columns: int) -> Tensor | None:
        """Nothing is added to the tokens where positions are relative; absolute ones are resampled (bicubic)."""
        return None if backbone.pos_embed is None else resampled(backbone.pos_embed, rows, columns)

    def bias(self, backbone: nn.Module, rows: int, columns: int) -> Tensor | None:
        """The shared relative position bias; on another grid its table is resampled (bicubic), as BEiT does."""
        shared = backbone.rel_pos_bias
        if shared is None:
            return None
        if (rows, columns) == tuple(shared.window_size):
            return shared()
        table = resized_table(shared.relative_position_bias_table, rows, columns)
        index = _index(rows, columns).to(table.device)
        return table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1).unsqueeze(0)

    def apply(self, block: nn.Module, tokens: Tensor, bias: Tensor | None) -> Tensor:
        return block(tokens, shared_rel_pos_bias=bias)

    def queries_keys_values(self, attention: nn.Module, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, _ = tokens.shape
        bias = attention.qkv.bias
        if attention.q_bias is not None:  # queries and values have a bias, keys none
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        qkv = nn.functional.linear(tokens, attention.qkv.weight, bias)
        q, k, v = qkv.reshape(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def residual(self, block: nn.Module, half: int, update: Tensor) -> Tensor:
        gamma = getattr(block, f"gamma_{half}")
        return update if gamma is None else gamma * update

    def resized(self, name: str, value: Tensor, new: Tensor, grid: int) -> Tensor | None:
        if name == _INDEX:
            return None
        if name == "pos_embed":
            return resampled(value, grid, grid)
        return resized_table(value, grid, grid) if name == _TABLE else value

    def constants(self, spec: EncoderSpec) -> dict[str, tuple[Tensor, str]]:
        if spec.positions != "relative":
            return {}
        return {
            _INDEX: (
                _index(spec.grid, spec.grid),
                "relative_position_index numbers the positions in another order than timm does",
            )
        }

    def read_positions(self, path: Path, tensors: Mapping[str, Tensor], grid: int, heads: int) -> str:
        table = tensors.get(_TABLE)
        if "pos_embed" in tensors:
            if table is not None:
                raise UserError(f"{path} has absolute positions (pos_embed) and relative ones ({_TABLE}), not one kind")
            require_grid(path, tensors["pos_embed"], grid)
            return "learned"
        if table is None or table.ndim != 2:
            raise UserError(f"{path} has no {_TABLE} with 2 dimensions; its positions are not those of a BEiT-like ViT")
        rows, stored = table.shape  # (2 grid - 1)^2 offsets, then those of CLS
        if stored != heads:
            raise UserError(
                f"{path}: its relative position bias is for {stored} heads, but num_heads={heads} was given"
            )
        if rows != (2 * grid - 1) ** 2 + CLS_ROWS:
            side = (math.isqrt(max(rows - CLS_ROWS, 0)) + 1) // 2
            raise UserError(
                f"{path}: its relative position bias is for a {side}x{side} grid, but img_size and patch_size give "
                f"{grid}x{grid}; give the size it was trained at (positions are not interpolated)"
            )
        return "relative"


def _index(rows: int, columns: int) -> Tensor:
    """Which row of the table is of which pair of tokens, (1+N, 1+N)."""
    from timm.layers.pos_embed_rel import gen_relative_position_index

    return gen_relative_position_index((rows, columns), class_token=True)


FAMILY = BEiT()
