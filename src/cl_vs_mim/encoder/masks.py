"""Which patches are hidden: in squares (SimMIM), one by one (MAE), in blocks (BEiT)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ASPECT = (0.3, 1 / 0.3)  # of a block, height over width; the original's
_ATTEMPTS = 10  # to place a block before single patches fill up what is left


def block_mask(batch: int, grid: int, unit: int, ratio: float, generator: torch.Generator | None) -> Tensor:
    """Random masks made of squares: in every image ceil(ratio * squares) of the (grid / unit)^2 squares are hidden.

    Args:
        batch: number of masks B.
        grid: patches along a side of the image.
        unit: patches along a side of one square (the paper: 32 px, 2 patches of 16 px).
        ratio: share to hide, 0 … 1 (the paper: 0.6).
        generator: makes the draw; masks are made on its device.

    Returns:
        (B, grid, grid) float32 in {0, 1}; 1 is hidden.

    Raises:
        ValueError: the squares do not tile the grid, or the ratio is not in 0 … 1.
    """
    if grid % unit:
        raise ValueError(f"squares of {unit} patches do not tile a grid of {grid}x{grid} patches")
    if not 0 <= ratio <= 1:
        raise ValueError(f"mask ratio {ratio} is not in 0 … 1")
    squares = (grid // unit) ** 2
    hidden = math.ceil(squares * ratio)
    device = generator.device if generator is not None else None
    order = torch.rand(batch, squares, generator=generator, device=device).argsort(dim=1)  # random permutations
    coarse = torch.zeros(batch, squares, device=device).scatter_(1, order[:, :hidden], 1.0)
    coarse = coarse.view(batch, grid // unit, grid // unit)
    return coarse.repeat_interleave(unit, dim=1).repeat_interleave(unit, dim=2)


def random_patches(batch: int, count: int, ratio: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Which patches each image shows: floor(count * (1 - ratio)) of them, drawn without replacement.

    Returns:
        visible (B, V) int64 positions, in random order, and mask (B, count) float32, 1 where hidden.

    Raises:
        ValueError: no patch would be visible, or none hidden.
    """
    kept = int(count * (1 - ratio))
    if not 0 < kept < count:
        raise ValueError(f"mask ratio {ratio} leaves {kept} of {count} patches visible")
    device = generator.device if generator is not None else None
    order = torch.rand(batch, count, generator=generator, device=device).argsort(dim=1)
    visible = order[:, :kept]
    return visible, torch.ones(batch, count, device=device).scatter_(1, visible, 0.0)


def blockwise_mask(batch: int, grid: int, ratio: float, least: int, generator: torch.Generator | None) -> Tensor:
    """Random blocks of patches (arXiv 2106.08254, Algorithm 1), floor(ratio * grid^2) patches in every image.

    Blocks of at least ``least`` patches and of random shape are laid until the count is reached; where no block fits
    any more, single patches fill up, so that every image hides the same number (the original may hide fewer).

    Args:
        batch: number of masks B.
        grid: patches along a side.
        ratio: share to hide (the original: 0.4).
        least: patches in the smallest block (the original: 16 of 196).
        generator: on the CPU; makes the draws.

    Returns:
        (B, grid, grid) float32 in {0, 1}; 1 is hidden.

    Raises:
        ValueError: no patch would be hidden, or all.
    """
    wanted = int(ratio * grid**2)
    if not 0 < wanted < grid**2:
        raise ValueError(f"mask ratio {ratio} hides {wanted} of {grid**2} patches")
    return torch.stack([_one_mask(grid, wanted, min(least, wanted), generator) for _ in range(batch)])


def _one_mask(grid: int, wanted: int, least: int, generator: torch.Generator | None) -> Tensor:
    mask = torch.zeros(grid, grid)
    draws = torch.rand(_ATTEMPTS * 4, 4, generator=generator).tolist()  # a fixed number: images do not depend on others
    order = torch.rand(grid**2, generator=generator)
    low, high = (math.log(ratio) for ratio in _ASPECT)
    for size, shape, place_row, place_col in draws:
        left = wanted - int(mask.sum())
        if left <= 0:
            break
        area = min(least, left) + size * max(0, left - least)
        aspect = math.exp(low + (high - low) * shape)
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < grid and 0 < width < grid):
            continue
        row, col = int(place_row * (grid - height + 1)), int(place_col * (grid - width + 1))
        block = mask[row : row + height, col : col + width]
        if 0 < block.numel() - int(block.sum()) <= left:
            block.fill_(1)
    left = wanted - int(mask.sum())
    if left:
        free = (order.view(grid, grid) + 2 * mask).flatten().argsort()[:left]
        mask.view(-1)[free] = 1
    return mask
