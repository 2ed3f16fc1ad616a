"""Similarities on cases with known answers, and against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cl_vs_mim.metrics.diversity import depth_similarity, head_similarity, token_similarity

SHAPES = [(1, 2, 5, 3), (3, 4, 10, 8), (2, 3, 17, 1)]  # batch, heads, 1+N, channels


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def noisy_cls(tokens: torch.Tensor) -> torch.Tensor:
    """The same with another CLS, which must not matter."""
    return torch.cat([1e3 + draw(*tokens[..., :1, :].shape, seed=9), tokens[..., 1:, :]], dim=-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_head_similarity_by_a_loop(shape):
    outputs = draw(*shape)
    _, heads, count, _ = shape
    expected = [
        np.mean(
            [
                cosine(image[h, n], image[k, n])
                for n in range(1, count)
                for h, k in itertools.permutations(range(heads), 2)
            ]
        )
        for image in outputs.double().numpy()
    ]
    np.testing.assert_allclose(head_similarity(outputs), expected, atol=1e-5)
    torch.testing.assert_close(head_similarity(noisy_cls(outputs)), head_similarity(outputs))


@pytest.mark.parametrize("shape", SHAPES)
def test_token_similarity_by_a_loop(shape):
    outputs = draw(*shape)
    pairs = list(itertools.permutations(range(1, shape[2]), 2))
    expected = [
        [np.mean([cosine(head[n], head[m]) for n, m in pairs]) for head in image] for image in outputs.double().numpy()
    ]
    np.testing.assert_allclose(token_similarity(outputs), expected, atol=1e-5)
    np.testing.assert_allclose(token_similarity(outputs[:, 0]), np.array(expected)[:, 0], atol=1e-5)
    torch.testing.assert_close(token_similarity(noisy_cls(outputs)), token_similarity(outputs))


@pytest.mark.parametrize("shape", [(1, 5, 3), (3, 10, 8), (2, 2, 1)])
def test_depth_similarity_by_a_loop(shape):
    before, after = draw(*shape), draw(*shape, seed=1)
    expected = [
        np.mean([cosine(x, y) for x, y in zip(a[1:], b[1:], strict=True)])
        for a, b in zip(before.double().numpy(), after.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(depth_similarity(before, after), expected, atol=1e-5)


def test_identical_opposite_and_orthogonal_heads():
    one = draw(2, 1, 10, 4)
    torch.testing.assert_close(head_similarity(one.expand(-1, 3, -1, -1)), torch.ones(2))
    torch.testing.assert_close(head_similarity(torch.cat([one, 5 * one], 1)), torch.ones(2))  # length does not matter
    torch.testing.assert_close(head_similarity(torch.cat([one, -one], 1)), -torch.ones(2))
    orthogonal = torch.eye(4).view(1, 4, 1, 4).expand(2, 4, 10, 4)
    torch.testing.assert_close(head_similarity(orthogonal), torch.zeros(2), atol=1e-6, rtol=0)


def test_turning_all_heads_alike_changes_nothing_and_turning_one_does():
    outputs = draw(2, 3, 10, 4)
    turn = torch.linalg.qr(draw(4, 4))[0]
    torch.testing.assert_close(head_similarity(outputs @ turn), head_similarity(outputs), atol=1e-5, rtol=0)
    alike = outputs[:, :1].expand(-1, 2, -1, -1).clone()
    alike[:, 1] = alike[:, 1] @ turn
    assert (head_similarity(alike) < 0.99).all()


def test_permuted_equal_and_orthogonal_tokens():
    tokens = draw(2, 10, 4)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(9)])
    torch.testing.assert_close(token_similarity(tokens[:, order]), token_similarity(tokens))
    torch.testing.assert_close(token_similarity(tokens[:, :1].expand(-1, 10, -1)), torch.ones(2))
    cls_and_basis = torch.cat([torch.ones(1, 1, 4), torch.eye(4)[None]], dim=1)
    torch.testing.assert_close(token_similarity(cls_and_basis), torch.zeros(1), atol=1e-6, rtol=0)
    simplex = torch.cat([torch.ones(1, 1, 4), (torch.eye(4) - 0.25)[None]], dim=1)
    torch.testing.assert_close(token_similarity(simplex), torch.tensor([-1 / 3]), atol=1e-6, rtol=0)


def test_depth_similarity_of_scaled_turned_and_reversed_tokens():
    tokens = draw(3, 5, 2)
    torch.testing.assert_close(depth_similarity(tokens, 3 * tokens), torch.ones(3))
    torch.testing.assert_close(depth_similarity(tokens, -tokens), -torch.ones(3))
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    torch.testing.assert_close(depth_similarity(tokens, tokens @ quarter), torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precision(dtype):
    outputs = draw(2, 3, 10, 8)
    for function in (head_similarity, token_similarity):
        found = function(outputs.to(dtype))
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(found.float(), function(outputs.to(dtype).float()), atol=1e-5, rtol=0)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="two heads or more"):
        head_similarity(draw(2, 1, 5, 3))
    with pytest.raises(ValueError, match="are needed"):
        head_similarity(draw(2, 5, 3))
    with pytest.raises(ValueError, match="are needed"):
        token_similarity(draw(2, 2, 3))
    with pytest.raises(ValueError, match="differ in shape"):
        depth_similarity(draw(2, 5, 3), draw(2, 5, 4))
