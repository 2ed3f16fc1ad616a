"""What an attention map says: how far it looks, how much it depends on the query, how sharp it is.

All functions take softmax maps of one block with CLS, (B, H, 1+N, 1+N) with N = grid x grid patches, and reduce them to
one value per image and head. CLS is dropped as query and as key, and each row is normalised again over the patches,
as in the notebooks of the paper's repository; Figures 2, 3 and 4.

float16 and bfloat16 maps are reduced in float32, float64 maps in float64. No function holds more than one temporary of
the size of the maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from cl_vs_mim.metrics.register import metric

# Added to every entry before rows are normalised again; both are the notebooks'. The first only rescues rows that look
# at nothing but CLS (they become uniform), the second also keeps the logarithm finite.
_EPS_DISTANCE = 1e-32
_EPS_INFORMATION = 1e-8

# ------------------------------------------------------------------------------------------------
# Distance (Figure 3)
# ------------------------------------------------------------------------------------------------


@metric(table="attention", takes="attention", per="head", unit="px of the input", range=(0, math.inf), figure="3")
def attention_distance(attention: Tensor, patch_size: int) -> Tensor:
    """Mean distance between a query patch and the patches it looks at, in pixels of the input.

    d = mean_q sum_k A[q, k] D[q, k], with D the Euclidean distance between patch centres; a patch is at distance 0 from
    itself (Fig. 3).

    Args:
        attention: (B, H, 1+N, 1+N) softmax probabilities, CLS first.
        patch_size: side of a patch, px.

    Returns:
        (B, H)

    Raises:
        ValueError: the maps have another shape, or their patches do not form a square.
    """
    patches, grid = _patch_maps(attention)  # (B, H, N, N)
    distances = _distances(grid, patch_size, patches.device, patches.dtype)  # (N, N)
    # The sums over keys, with eps taken out of them so that no second map is formed.
    weighted = torch.einsum("bhqk,qk->bhq", patches, distances) + _EPS_DISTANCE * distances.sum(-1)
    total = patches.sum(-1) + _EPS_DISTANCE * grid**2
    return (weighted / total).mean(-1)


@lru_cache(maxsize=16)
def _distances(grid: int, patch_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(N, N) Euclidean distances between patch centres, px. A function of its arguments alone, hence kept."""
    with torch.inference_mode(False):  # whoever asks first, the matrix must be usable everywhere
        index = torch.arange(grid, dtype=torch.float64)
        centres = torch.cartesian_prod(index, index) * patch_size  # (N, 2) row-major
        difference = centres[:, None] - centres[None]  # (N, N, 2)
        return difference.square().sum(-1).sqrt().to(device, dtype)


# ------------------------------------------------------------------------------------------------
# Information (Figure 4)
# ------------------------------------------------------------------------------------------------


@metric(table="attention", takes="attention", per="head", range=(0, 1), figure="4", name="nmi")
def normalized_mutual_information(attention: Tensor) -> Tensor:
    """How much the map depends on the query: 0 when all queries have the same map, 1 when each has a key of its own.

    With p(q) = 1/N and p(q, k) = A[q, k] p(q): NMI = I(q; k) / sqrt(H(q) H(k)), natural logarithms (Fig. 4). Computed
    as I = H(k) - H(k | q), the second term being the mean entropy of the rows. It is 0 for uniform maps and also when
    all queries look at one key: see :func:`attention_entropy` for which of the two it is.

    Args:
        attention: (B, H, 1+N, 1+N) softmax probabilities, CLS first.

    Returns:
        (B, H)

    Raises:
        ValueError: the maps have another shape, or their patches do not form a square of at least 2x2.
    """
    patches, grid = _patch_maps(attention, smallest=2)  # (B, H, N, N)
    entropies, total = _row_entropies(patches, _EPS_INFORMATION)  # (B, H, N) each
    shares = 1 / total
    marginal = torch.einsum("bhq,bhqk->bhk", shares, patches) + _EPS_INFORMATION * shares.sum(-1, keepdim=True)
    marginal = marginal / grid**2  # p(k), (B, H, N)
    entropy = torch.special.entr(marginal).sum(-1)  # H(k)
    information = (entropy - entropies.mean(-1)).clamp_min(0)  # negative only by rounding
    return information / (math.log(grid**2) * entropy).sqrt()


@metric(table="attention", takes="attention", per="head", range=(0, 1), figure="beside 4")
def attention_entropy(attention: Tensor) -> Tensor:
    """How spread the rows are: 1 when every query looks at all patches alike, 0 when each looks at a single one.

    The mean over queries of the entropy of their rows, divided by log N. Not in the paper; it tells the two kinds of
    NMI 0 apart.

    Args:
        attention: (B, H, 1+N, 1+N) softmax probabilities, CLS first.

    Returns:
        (B, H)

    Raises:
        ValueError: the maps have another shape, or their patches do not form a square of at least 2x2.
    """
    patches, grid = _patch_maps(attention, smallest=2)
    entropies, _ = _row_entropies(patches, _EPS_DISTANCE)
    return entropies.mean(-1) / math.log(grid**2)


def _row_entropies(patches: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Entropy (nats) of each row w / s, with w = patches + eps and s = sum w, and s itself; both (B, H, N).

    As log s - (sum w log w) / s, so that the normalised map is never formed.
    """
    logs = (patches + eps).log_()  # (B, H, N, N), the only temporary of this size
    offset = eps * logs.sum(-1)
    products = logs.mul_(patches).sum(-1) + offset  # sum w log w
    total = patches.sum(-1) + eps * patches.shape[-1]
    return total.log() - products / total, total


# ------------------------------------------------------------------------------------------------
# Maps (Figure 2)
# ------------------------------------------------------------------------------------------------


@metric(table="attention", takes="attention", per="head", range=(0, 1), figure="beside 2")
def query_similarity(attention: Tensor) -> Tensor:
    """How alike the maps of two queries are: the mean cosine over all pairs of different queries (Fig. 2, claim C6).

    1 when all queries have the same map, 0 when no two look at a common patch. Computed as
    (||sum_q u_q||^2 - N) / (N (N - 1)) with u_q the row of query q over its norm.

    Args:
        attention: (B, H, 1+N, 1+N) softmax probabilities, CLS first.

    Returns:
        (B, H)

    Raises:
        ValueError: the maps have another shape, or their patches do not form a square of at least 2x2.
    """
    patches, grid = _patch_maps(attention, smallest=2)  # (B, H, N, N)
    count = grid**2
    lengths = torch.linalg.vector_norm(patches, dim=-1)  # (B, H, N)
    empty = lengths == 0  # rows that look at nothing but CLS count as uniform, of norm 1 with N entries of 1 / sqrt(N)
    total = torch.einsum("bhq,bhqk->bhk", 1 / lengths.masked_fill(empty, 1.0), patches)  # (B, H, N)
    total = total + empty.sum(-1, keepdim=True) / grid
    return (total.square().sum(-1) - count) / (count * (count - 1))


def attention_rows(attention: Tensor, queries: Sequence[tuple[int, int]]) -> Tensor:
    """Where the given patches look: their rows, normalised again over the patches (Fig. 2).

    Args:
        attention: (B, H, 1+N, 1+N) softmax probabilities, CLS first.
        queries: Q patches as (row, column) on the grid.

    Returns:
        (B, H, Q, grid, grid), each map with sum 1.

    Raises:
        ValueError: the maps have another shape, their patches do not form a square, or a query lies outside it.
    """
    patches, grid = _patch_maps(attention)
    for row, column in queries:
        if not (0 <= row < grid and 0 <= column < grid):
            raise ValueError(f"query patch ({row}, {column}) is not on the {grid}x{grid} grid")
    rows = patches[:, :, [row * grid + column for row, column in queries]] + _EPS_DISTANCE  # (B, H, Q, N)
    return (rows / rows.sum(-1, keepdim=True)).unflatten(-1, (grid, grid))


def _patch_maps(attention: Tensor, smallest: int = 1) -> tuple[Tensor, int]:
    """The view (B, H, N, N) without CLS, at least float32, and the side of the grid."""
    if attention.ndim != 4 or attention.shape[-1] != attention.shape[-2] or attention.shape[-1] < 2:
        raise ValueError(f"attention maps (batch, heads, 1+N, 1+N) are needed, not {tuple(attention.shape)}")
    patches = attention[..., 1:, 1:]
    if patches.dtype != torch.float64:
        patches = patches.float()
    count = patches.shape[-1]
    grid = math.isqrt(count)
    if grid**2 != count:
        raise ValueError(f"{count} patch tokens do not form a square grid")
    if grid < smallest:
        raise ValueError(f"a grid of at least {smallest}x{smallest} patches is needed, not {grid}x{grid}")
    return patches, grid
