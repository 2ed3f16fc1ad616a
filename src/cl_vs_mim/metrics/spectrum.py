"""Singular values of the covariance of tokens: how many directions an image, or a set of images, fills (Figure 7).

Natural logarithms of the singular values of the *covariance*, hence twice those of the centred tokens, as in the
author's code (issue 2 of the published repository). Always float64.

At most min(N, D) - 1 values are not zero. Values below :data:`FLOOR` times the largest are rounding and are set to
that, so that tokens of lower rank give a flat, recognisable end instead of noise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.metrics.register import metric

FLOOR = 1e-14  # relative to the largest singular value of the covariance; float64 resolves about 2e-16

# ------------------------------------------------------------------------------------------------
# Token level: one image
# ------------------------------------------------------------------------------------------------


@metric(
    table="token_spectrum",
    takes="block_tokens",
    per="rank",
    unit="natural logarithm of squared token units",
    figure="7",
    name="token_log_singular_value",
)
def token_log_singular_values(tokens: Tensor) -> Tensor:
    """Spectrum over the patches of each image (Fig. 7, token level).

    Args:
        tokens: (B, 1+N, D), CLS first; it is dropped.

    Returns:
        (B, R) float64, descending, R = min(N, D) - 1; ln of squared units of the tokens.

    Raises:
        ValueError: another shape, or fewer than two patches.
    """
    if tokens.ndim != 3 or tokens.shape[1] < 3:
        raise ValueError(f"tokens (batch, 1+N, channels) with N >= 2 are needed, not {tuple(tokens.shape)}")
    return _log_spectrum(tokens[:, 1:])


# ------------------------------------------------------------------------------------------------
# Image level: the mean tokens of many images
# ------------------------------------------------------------------------------------------------


def image_log_singular_values(tokens: Tensor) -> Tensor:
    """Spectrum over images of their mean patch token (Fig. 7, image level).

    Args:
        tokens: (B, 1+N, D), CLS first; it is dropped.

    Returns:
        (R,) float64, descending, R = min(B, D) - 1.

    Raises:
        ValueError: another shape, or a single image.
    """
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        raise ValueError(f"tokens (batch, 1+N, channels) are needed, not {tuple(tokens.shape)}")
    return image_log_singular_values_of(tokens[:, 1:].double().mean(1))


@metric(
    table="image_spectrum",
    takes="token_mean",
    per="rank",
    unit="natural logarithm of squared token units",
    figure="7",
    name="image_log_singular_value",
)
def image_log_singular_values_of(pooled: Tensor) -> Tensor:
    """The same from the mean tokens themselves, (M, D) -> (R,), R = min(M, D) - 1.

    Raises:
        ValueError: another shape, or a single image.
    """
    if pooled.ndim != 2 or len(pooled) < 2:
        raise ValueError(f"mean tokens (images, channels) of two images or more are needed, not {tuple(pooled.shape)}")
    return _log_spectrum(pooled[None])[0]


def bootstrap_image_spectrum(
    pooled: Tensor, *, level: float, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The image-level spectrum with an interval over images.

    Weights of the images are drawn (Bayesian bootstrap; Rubin 1981, exponential weights), because drawing images with
    replacement leaves a third of them out and so lowers the rank and all late values. Eigenvalues of a resampled
    covariance are nevertheless more spread than those of the sample: the deviations of the resamples from their own
    mean are laid around the estimate, so that this bias is not counted twice.

    Args:
        pooled: (M, D) mean tokens.
        level: coverage, for example 0.95.
        resamples: number of draws.
        seed: seeds the draws.

    Returns:
        value, low, high, each (R,) float64.
    """
    value = image_log_singular_values_of(pooled).cpu()
    generator = np.random.default_rng(seed)
    images = pooled.double().cpu()
    draws = torch.empty(resamples, len(value), dtype=torch.float64)
    for place in range(resamples):
        weights = torch.from_numpy(generator.exponential(size=len(images)))
        weights = weights / weights.sum()  # (M,)
        centred = images - weights @ images
        scale = (len(images) * weights).sqrt()[:, None]
        draws[place] = _log_of(_gram_eigenvalues((scale * centred)[None]) / (len(images) - 1))[0, : len(value)]
    deviations = draws - draws.mean(0)
    tail = (1 - level) / 2
    low, high = (value + torch.quantile(deviations, share, dim=0) for share in (tail, 1 - tail))
    return value.numpy(), low.numpy(), high.numpy()


# ------------------------------------------------------------------------------------------------
# Eigenvalues
# ------------------------------------------------------------------------------------------------


def _log_spectrum(rows: Tensor) -> Tensor:
    """(B, M, D) -> (B, min(M, D) - 1) float64: ln of the covariance's singular values, descending."""
    count, width = rows.shape[-2:]
    if width < 2:
        raise ValueError("a spectrum needs two channels or more")
    centred = rows.to(torch.float64, copy=True)
    centred -= centred.mean(-2, keepdim=True)  # in place: a second tensor of this size costs more than the subtraction
    return _log_of(_gram_eigenvalues(centred) / (count - 1))[..., : min(count, width) - 1]


def _gram_eigenvalues(centred: Tensor) -> Tensor:
    """Descending eigenvalues of the smaller of the two Gram matrices; the others are zero."""
    wide = centred.shape[-1] > centred.shape[-2]
    gram = centred @ centred.mT if wide else centred.mT @ centred
    # The trace tells of every entry that is not finite: each takes part in a sum of squares on the diagonal.
    finite = gram.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True).isfinite()  # (B, 1)
    values = torch.linalg.eigvalsh(gram.masked_fill_(~finite[..., None], 0.0))  # NaN would not converge
    return values.flip(-1).where(finite, torch.nan)


def _log_of(values: Tensor) -> Tensor:
    floor = (FLOOR * values[..., :1]).clamp_min(math.exp(-700))  # all tokens equal: still finite
    return values.maximum(floor).log()
