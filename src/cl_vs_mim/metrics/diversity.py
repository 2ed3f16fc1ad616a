"""How alike heads, depths and positions are (Figure 5).

All similarities are cosines, CLS is dropped, and nothing is centred. The paper's exact definitions are UNKNOWN: which
tensor (we take the heads' outputs before the projection, which the authors' models return), and which depths.
float16 and bfloat16 tokens are reduced in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cl_vs_mim.metrics.register import metric

_SHORTEST = 1e-12  # length below which a token counts as zero


@metric(table="diversity", takes="head_outputs", range=(-1, 1), figure="5 (a)", least={"heads": 2})
def head_similarity(head_outputs: Tensor) -> Tensor:
    """Mean cosine between the outputs of two different heads at the same token (Fig. 5a).

    Args:
        head_outputs: (B, H, 1+N, d), attention times values, CLS first.

    Returns:
        (B,), from -1/(H-1) to 1 (all heads alike).

    Raises:
        ValueError: another shape, or a single head, which has no other to be like.
    """
    _require(head_outputs, 4, "head outputs (batch, heads, 1+N, channels)")
    heads = head_outputs.shape[1]
    if heads < 2:
        raise ValueError("similarity between heads needs two heads or more")
    outputs = _patches(head_outputs)
    unit = outputs / _length(outputs).unsqueeze(-1)
    total = unit.sum(1).square().sum(-1)  # (B, N): |sum of unit vectors|^2 = H + sum over pairs
    return (total.mean(-1) - heads) / (heads * (heads - 1))


@metric(
    table="diversity",
    takes=("before", "after_attention"),
    range=(-1, 1),
    figure="5 (b)",
    name="depth_similarity_attention",
)
@metric(table="diversity", takes=("before", "after_mlp"), range=(-1, 1), figure="5 (b)", name="depth_similarity_blocks")
def depth_similarity(before: Tensor, after: Tensor) -> Tensor:
    """Mean cosine between a token and itself further on (Fig. 5b): around self-attention, or around a block.

    Args:
        before: (B, 1+N, D), CLS first.
        after: (B, 1+N, D).

    Returns:
        (B,), from -1 to 1 (no token has turned).

    Raises:
        ValueError: another shape.
    """
    _require(before, 3, "tokens (batch, 1+N, channels)")
    if before.shape != after.shape:
        raise ValueError(f"tokens before {tuple(before.shape)} and after {tuple(after.shape)} differ in shape")
    before, after = _patches(before), _patches(after)
    return ((before * after).sum(-1) / (_length(before) * _length(after))).mean(-1)


@metric(
    table="diversity", takes="head_outputs", per="head", range=(-1, 1), figure="5 (c)", name="token_similarity_heads"
)
@metric(table="diversity", takes="after_mlp", range=(-1, 1), figure="5 (c)", name="token_similarity_blocks")
def token_similarity(tokens: Tensor) -> Tensor:
    """Mean cosine between two different positions of an image (Fig. 5c).

    Args:
        tokens: (B, 1+N, D) tokens of a block, or (B, H, 1+N, d) outputs of its heads; CLS first.

    Returns:
        (B,) or (B, H), from -1/(N-1) to 1 (all positions alike).

    Raises:
        ValueError: another shape, or a single patch.
    """
    if tokens.ndim not in (3, 4) or tokens.shape[-2] < 3:
        raise ValueError(f"tokens (batch, [heads,] 1+N, channels) with N >= 2 are needed, not {tuple(tokens.shape)}")
    count = tokens.shape[-2] - 1
    patches = _patches(tokens)
    summed = (1 / _length(patches)).unsqueeze(-2) @ patches  # (B, [H,] 1, D): sum of unit vectors, none of them formed
    total = summed.squeeze(-2).square().sum(-1)  # |sum of unit vectors|^2 = N + sum over pairs: no N x N matrix
    return (total - count) / (count * (count - 1))


def _patches(tokens: Tensor) -> Tensor:
    """Without CLS, at least float32."""
    patches = tokens[..., 1:, :]
    return patches if patches.dtype == torch.float64 else patches.float()


def _length(patches: Tensor) -> Tensor:
    """(…, N) from (…, N, D); a token that is zero has cosine 0 with all."""
    return torch.linalg.vector_norm(patches, dim=-1).clamp_min(_SHORTEST)


def _require(tensor: Tensor, dimensions: int, wanted: str) -> None:
    if tensor.ndim != dimensions or tensor.shape[-2] < 2:
        raise ValueError(f"{wanted} are needed, not {tuple(tensor.shape)}")
