"""Linear CKA and effective rank: closed forms and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch

from cl_vs_mim.metrics import effective_rank, linear_cka


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int, seed: int = 5) -> torch.Tensor:
    return torch.linalg.qr(draw(size, size, seed=seed))[0]


# ------------------------------------------------------------------------------------------------
# Linear CKA
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20, 3), (3, 20), (8, 8)])
def test_rotating_scaling_and_shifting_leave_it_at_one(shape) -> None:
    x = draw(*shape)
    turned = 7 * x @ rotation(shape[1]) + draw(1, shape[1], seed=1)
    torch.testing.assert_close(linear_cka(x, x), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(linear_cka(x, turned), torch.tensor(1.0, dtype=torch.float64))


def test_stretching_one_direction_has_a_closed_form() -> None:
    # Orthogonal centred columns of equal length; the second is stretched by s: (1 + s^2) / sqrt(2 (1 + s^4)).
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    for stretch in (0.0, 0.5, 3.0):
        wanted = (1 + stretch**2) / math.sqrt(2 * (1 + stretch**4))
        assert math.isclose(linear_cka(x, x * torch.tensor([1.0, stretch])), wanted, rel_tol=1e-12)


def test_columns_that_are_orthogonal_have_nothing_in_common() -> None:
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    y = torch.tensor([[1.0, 5.0], [-1.0, 5.0], [1.0, 5.0], [-1.0, 5.0]])
    assert linear_cka(x, y) == 0


@pytest.mark.parametrize(("inputs", "widths"), [(6, (9, 11)), (30, (4, 7)), (6, (3, 11))])
def test_both_ways_to_compute_it_agree_with_the_centred_kernels(inputs, widths) -> None:
    x, y = draw(inputs, widths[0]), draw(inputs, widths[1], seed=1) + 3
    centre = torch.eye(inputs, dtype=torch.float64) - 1 / inputs
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    wanted = (k * m).sum() / (k.norm() * m.norm())
    torch.testing.assert_close(linear_cka(x, y), wanted)
    torch.testing.assert_close(linear_cka(y, x), wanted)


def test_it_refuses_what_it_cannot_compare() -> None:
    for x, y in ((draw(3, 2), draw(4, 2)), (draw(1, 2), draw(1, 2)), (draw(3), draw(3))):
        with pytest.raises(ValueError, match="are needed"):
            linear_cka(x, y)
    assert linear_cka(torch.ones(4, 2), draw(4, 2)).isnan()


# ------------------------------------------------------------------------------------------------
# Effective rank
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 7), (12, 7), (7, 12)])
def test_equal_singular_values_fill_all_directions(shape) -> None:
    size = max(shape)
    matrix = 3 * rotation(size)[: shape[0], : shape[1]] if shape[0] == shape[1] else None
    if matrix is None:
        matrix = 3 * rotation(size)[: shape[0]] if shape[0] < shape[1] else 3 * rotation(size)[:, : shape[1]]
    assert math.isclose(effective_rank(matrix), min(shape), rel_tol=1e-12)


def test_one_direction_counts_as_one() -> None:
    assert math.isclose(effective_rank(draw(9, 1) @ draw(1, 5)), 1, rel_tol=1e-9)


def test_two_singular_values_give_the_entropy_of_their_shares() -> None:
    for share in (0.5, 0.1, 0.999):
        matrix = torch.diag(torch.tensor([share, 1 - share], dtype=torch.float64)) @ rotation(2)
        entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
        assert math.isclose(effective_rank(100 * matrix), math.exp(entropy), rel_tol=1e-9)


def test_half_precision_is_reduced_in_double_and_other_shapes_are_refused() -> None:
    matrix = draw(6, 4).half()
    torch.testing.assert_close(effective_rank(matrix), effective_rank(matrix.double()))
    assert effective_rank(torch.zeros(3, 2)).isnan()
    for shape in ((3,), (0, 4), (2, 3, 4)):
        with pytest.raises(ValueError, match="is needed"):
            effective_rank(torch.ones(*shape))
