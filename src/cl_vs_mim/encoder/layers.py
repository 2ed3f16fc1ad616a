"""Parts that encoders of all families, and decoders, are made of. timm is imported when something is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cl_vs_mim.encoder.spec import EncoderSpec


def sincos_positions(grid: int, width: int) -> nn.Parameter:
    """Fixed 2-D sin-cos positions (1, 1+N, D), a zero row for CLS; rows first, as MoCo v3 (MAE: columns first)."""
    from timm.layers import build_sincos2d_pos_embed

    table = build_sincos2d_pos_embed([grid, grid], dim=width)  # (N, D): sin y, sin x, cos y, cos x
    table = table.reshape(grid**2, 2, 2, width // 4).transpose(1, 2).flatten(1)  # sin y, cos y, sin x, cos x
    table = torch.cat([torch.zeros(1, width), table])
    return nn.Parameter(table.unsqueeze(0), requires_grad=False)


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
