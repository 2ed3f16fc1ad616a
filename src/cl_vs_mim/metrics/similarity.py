"""How alike two representations of the same inputs are, and how many directions one of them fills.

Both take plain matrices, one row an input, and reduce them in float64 whatever they come in.
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Linear centred kernel alignment of two representations (Kornblith et al. 2019, arXiv 1905.00414, equation 4).

    ``||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)`` of the matrices with the mean of each column taken out. It is the
    same for representations that were rotated, reflected or scaled, each on its own, but not for ones that were
    stretched along some directions.

    Args:
        first: (M, D), row i being what one encoder makes of input i.
        second: (M, E), row i being what the other makes of the same input.

    Returns:
        Scalar in 0 … 1, float64; 1 for equal representations. NaN where one of them is the same for all inputs.

    Raises:
        ValueError: not two matrices, different numbers of rows, or fewer than two.
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second) or len(first) < 2:
        raise ValueError(
            "two representations (M, D) and (M, E) of M >= 2 inputs are needed, not "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    x, y = (matrix.double() - matrix.double().mean(0) for matrix in (first, second))
    if len(x) < min(x.shape[1], y.shape[1]):  # the Gram matrices of the inputs are the smaller ones
        inner_x, inner_y = x @ x.T, y @ y.T  # (M, M)
        cross = (inner_x * inner_y).sum()
    else:
        inner_x, inner_y = x.T @ x, y.T @ y  # (D, D), (E, E)
        cross = (y.T @ x).square().sum()
    return cross / (torch.linalg.matrix_norm(inner_x) * torch.linalg.matrix_norm(inner_y))


def effective_rank(representation: Tensor) -> Tensor:
    """Effective rank: the exponential of the entropy of the singular values, made to sum to 1.

    From Roy and Vetterli, "The effective rank", EUSIPCO 2007; of embeddings also called RankMe (Garrido et al. 2023,
    arXiv 2210.02885). The matrix is taken as it is: subtract the mean of each column first to measure the spread
    around it.

    Args:
        representation: (M, D), one row an input.

    Returns:
        Scalar from 1 (all rows are multiples of one vector) to min(M, D) (all singular values equal), float64. NaN
        for a matrix of zeros.

    Raises:
        ValueError: not a matrix, or an empty one.
    """
    if representation.ndim != 2 or not representation.numel():
        raise ValueError(f"a representation (M, D) is needed, not {tuple(representation.shape)}")
    values = torch.linalg.svdvals(representation.double())  # (min(M, D),)
    return torch.special.entr(values / values.sum()).sum().exp()
