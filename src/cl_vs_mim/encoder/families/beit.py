"""The BEiT-like ViT (SimMIM, BEiT), on timm's class: no bias on the keys, and positions of one of three kinds.

``relative``: relative position biases and LayerScale, as SimMIM and BEiT of ImageNet-22K have them; pre-trained, all
blocks share one table, and the originals give each its own when they fine-tune (``relative_by_block``). ``learned``:
absolute positions, as BEiT of ImageNet-1K has them, without LayerScale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.families import PreNormFamily
from cl_vs_mim.encoder.layers import CLS_ROWS, require_grid, resampled, resized_table, timm_arguments
from cl_vs_mim.encoder.spec import EncoderSpec

_BY_BLOCK = "relative_by_block"
_SHARED, _OWN = "rel_pos_bias.", "blocks.{}.attn."  # where a table is
_TABLE, _INDEX = "relative_position_bias_table", "relative_position_index"


class BEiT(PreNormFamily):
    """A BEiT-like ViT.

    It is initialised as BEiT does it: truncated normal, residual branches divided by sqrt(2 l) (arXiv 2106.08254).
    """

    positions = ("relative", _BY_BLOCK, "learned")
    by_block: ClassVar[Mapping[str, str]] = {"relative": _BY_BLOCK}
    absolute = False  # of no kind for MAE and DINO, which need another initialisation anyway
    layer_scale = "blocks.0.gamma_1"

    def build(self, spec: EncoderSpec) -> nn.Module:
        from timm.models.beit import Beit

        asked = {
            "use_abs_pos_emb": spec.positions == "learned",
            "use_shared_rel_pos_bias": spec.positions == "relative",
            "use_rel_pos_bias": spec.positions == _BY_BLOCK,
        }
        return Beit(**asked, **timm_arguments(spec))

    def resampled_positions(self, backbone: nn.Module, rows: int, columns: int) -> Tensor | None:
        """Nothing is added to the tokens where positions are relative; absolute ones are resampled (bicubic)."""
        return None if backbone.pos_embed is None else resampled(backbone.pos_embed, rows, columns)

    def bias(self, backbone: nn.Module, rows: int, columns: int) -> Tensor | None:
        """The relative position bias; on another grid its table is resampled (bicubic), as BEiT does."""
        if backbone.pos_embed is not None:
            return None
        shared = backbone.rel_pos_bias
        holders = [shared] if shared is not None else [block.attn for block in backbone.blocks]
        return torch.cat([_bias_of(one, rows, columns) for one in holders])

    def apply(self, block: nn.Module, tokens: Tensor, bias: Tensor | None) -> Tensor:
        attention = block.attn
        if attention.relative_position_bias_table is None:
            return block(tokens, shared_rel_pos_bias=bias)
        # timm would add the block's own bias, which is of its own grid, to the one that is asked for
        q, k, v = self.queries_keys_values(attention, block.norm1(tokens), attention.num_heads)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        update = attention.proj(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + block.drop_path1(self.residual(block, 1, update))
        return tokens + block.drop_path2(self.residual(block, 2, block.mlp(block.norm2(tokens))))

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
        if name.endswith(_INDEX):
            return None
        if name == "pos_embed":
            return resampled(value, grid, grid)
        return resized_table(value, grid, grid) if name.endswith(_TABLE) else value

    def apart(self, state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
        found = {name: value for name, value in state.items() if not name.startswith(_SHARED)}
        table = state[_SHARED + _TABLE]
        return found | {f"{_OWN.format(block)}{_TABLE}": table.clone() for block in range(depth)}

    def constants(self, spec: EncoderSpec) -> dict[str, tuple[Tensor, str]]:
        places = {"relative": [_SHARED], _BY_BLOCK: [_OWN.format(block) for block in range(spec.depth)]}
        words = "relative_position_index numbers the positions in another order than timm does"
        return {place + _INDEX: (_index(spec.grid, spec.grid), words) for place in places.get(spec.positions, [])}

    def read_positions(self, path: Path, tensors: Mapping[str, Tensor], grid: int, heads: int) -> str:
        shared, own = tensors.get(_SHARED + _TABLE), tensors.get(_OWN.format(0) + _TABLE)
        table = shared if own is None else own
        if "pos_embed" in tensors:
            if table is not None:
                raise UserError(f"{path} has absolute positions (pos_embed) and relative ones ({_TABLE}), not one kind")
            require_grid(path, tensors["pos_embed"], grid)
            return "learned"
        if table is None or table.ndim != 2:
            raise UserError(
                f"{path} has no {_SHARED}{_TABLE} with 2 dimensions; its positions are not those of a BEiT-like ViT"
            )
        if shared is not None and own is not None:
            raise UserError(
                f"{path} has relative positions of each block beside shared ones; an encoder here has either"
            )
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
        return "relative" if own is None else _BY_BLOCK


def _bias_of(holder: nn.Module, rows: int, columns: int) -> Tensor:
    """(1, H, 1+N, 1+N) of a module with a table, for a grid."""
    table, index = holder.relative_position_bias_table, holder.relative_position_index
    if (rows, columns) != tuple(holder.window_size):
        table = resized_table(table, rows, columns)
        index = _index(rows, columns).to(table.device)
    return table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1).unsqueeze(0)


def _index(rows: int, columns: int) -> Tensor:
    """Which row of the table is of which pair of tokens, (1+N, 1+N)."""
    from timm.layers.pos_embed_rel import gen_relative_position_index

    return gen_relative_position_index((rows, columns), class_token=True)


FAMILY = BEiT()
