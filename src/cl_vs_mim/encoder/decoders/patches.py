"""Images as rows of patches, and back.

Shapes: B images, N patches of P x P pixels.
"""

from __future__ import annotations

from torch import Tensor

_NORM_PIX_EPS = 1e-6  # added to a patch's variance, as in MAE's original


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches: (B, 3, S, S) -> (B, N, P*P*3), patches by rows, colour last.

    Raises:
        ValueError: the images are not square, or not whole patches.
    """
    if images.shape[-1] != images.shape[-2] or images.shape[-1] % patch_size:
        raise ValueError(f"images {tuple(images.shape[-2:])} are not squares of {patch_size} px patches")
    cut = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # (B, 3, g, P, g, P)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """The inverse of :func:`patchify`: (B, N, P*P*3) -> (B, 3, S, S)."""
    grid = round(patches.shape[1] ** 0.5)
    cut = patches.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, (grid, grid))  # (B, g, g, P, P, 3)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, (B, N, 1) each, with which MAE may normalise its targets."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + _NORM_PIX_EPS).sqrt()
