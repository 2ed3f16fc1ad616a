"""Parts that encoders of all families, and decoders, are made of. timm is imported when something is built."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.spec import EncoderSpec


def sincos_positions(grid: int, width: int) -> nn.Parameter:
    """Fixed 2-D sin-cos positions (1, 1+N, D), a zero row for CLS; rows first, as MoCo v3 (MAE: columns first)."""
    from timm.layers import build_sincos2d_pos_embed

    table = build_sincos2d_pos_embed([grid, grid], dim=width)  # (N, D): sin y, sin x, cos y, cos x
    table = table.reshape(grid**2, 2, 2, width // 4).transpose(1, 2).flatten(1)  # sin y, cos y, sin x, cos x
    table = torch.cat([torch.zeros(1, width), table])
    return nn.Parameter(table.unsqueeze(0), requires_grad=False)


def resampled(table: Tensor, rows: int, columns: int) -> Tensor:
    """Positions (1, 1+N, D) for another grid, bicubic; the row of CLS stays."""
    from timm.layers import resample_abs_pos_embed

    return resample_abs_pos_embed(table, [rows, columns], num_prefix_tokens=1)


CLS_ROWS = 3  # the last rows of a table of relative positions: CLS to patch, patch to CLS, CLS to CLS


def resized_table(table: Tensor, rows: int, columns: int) -> Tensor:
    """A relative position table ((2g-1)^2 + 3, H) for another grid, bicubic as in BEiT; rows of CLS stay."""
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple

    count = (2 * rows - 1) * (2 * columns - 1) + CLS_ROWS
    return resize_rel_pos_bias_table_simple(table, (rows, columns), (count, table.shape[1]))


def require_grid(path: Path, table: Tensor, grid: int) -> None:
    """Raise :class:`UserError` unless these absolute positions of a file are (1, 1+N, D), CLS and grid x grid."""
    if table.ndim != 3:
        raise UserError(
            f"{path}: its pos_embed has {table.ndim} dimensions, not 3; its positions are not those of a ViT"
        )
    rows = table.shape[1]
    if rows == grid**2 + 1:
        return
    if rows == grid**2:
        raise UserError(
            f"{path}: its position embedding has {rows} rows, one for each of {grid}x{grid} patches and none for CLS "
            "(DeiT III is such a one); give it as one of timm's, with its tag"
        )
    side = math.isqrt(max(rows - 1, 0))
    stored = f"{rows - 1} patches ({side}x{side})" if side**2 == rows - 1 else f"{rows} rows"
    raise UserError(
        f"{path}: its position embedding has CLS and {stored}, but img_size and patch_size give {grid**2} "
        f"({grid}x{grid}); give the size it was trained at (positions are not interpolated)"
    )


def layer_norm(eps: float) -> Callable[..., nn.LayerNorm]:
    """A LayerNorm class with this epsilon, for timm's ``norm_layer`` arguments."""

    def make(width: int, **kwargs) -> nn.LayerNorm:
        return nn.LayerNorm(width, eps=eps, **kwargs)

    return make


def timm_arguments(spec: EncoderSpec) -> dict[str, Any]:
    """The arguments that timm's classes of vision transformers have in common, without a classification head."""
    return dict(
        img_size=spec.image_size,
        patch_size=spec.patch_size,
        embed_dim=spec.width,
        depth=spec.depth,
        num_heads=spec.heads,
        mlp_ratio=spec.mlp_ratio,
        init_values=spec.layer_scale,
        drop_path_rate=spec.drop_path,
        norm_layer=layer_norm(spec.layer_norm_eps),
        num_classes=0,
        global_pool="token",
    )
