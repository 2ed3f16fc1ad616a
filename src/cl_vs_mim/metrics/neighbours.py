"""Classifying by nearest neighbours: a probe that is not trained."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_neighbour_classes(
    features: Tensor, memory: Tensor, labels: Tensor, neighbours: int = 20, temperature: float = 0.07
) -> Tensor:
    """The class that the nearest images of known class vote for.

    Each of the k images with the largest cosine votes for its class with the weight exp(cosine / temperature), as in
    the evaluation of DINO (Caron et al., arXiv 2104.14294, section 4.1; Wu et al., arXiv 1805.01978).

    Args:
        features: (M, D), of the images to be classified.
        memory: (K, D), of the images of known class.
        labels: (K,) int64, their classes.
        neighbours: k; all of the memory if it holds fewer.
        temperature: of the votes.

    Returns:
        (M,) int64.
    """
    cosine = torch.nn.functional.normalize(features, dim=1) @ torch.nn.functional.normalize(memory, dim=1).T  # (M, K)
    nearest, places = cosine.topk(min(neighbours, len(memory)), dim=1)  # (M, k)
    return vote(nearest, labels[places], int(labels.max()) + 1, temperature)


def vote(cosines: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """The class (...) with the largest sum of exp(cosine / temperature) over k neighbours.

    Args:
        cosines: (..., k), of the neighbours.
        labels: (..., k) int64, their classes.
        classes: how many there are.
        temperature: of the votes.
    """
    votes = torch.zeros(*cosines.shape[:-1], classes, dtype=cosines.dtype, device=cosines.device)
    votes.scatter_add_(-1, labels, (cosines / temperature).exp())
    return votes.argmax(dim=-1)
