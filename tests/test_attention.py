"""Attention metrics: the notebooks' answers, known answers, slow second implementations, invariances."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cl_vs_mim.metrics.attention import (
    attention_distance,
    attention_entropy,
    attention_rows,
    normalized_mutual_information,
    query_similarity,
)
from cl_vs_mim.metrics.yardstick import uniform_attention_distance

ORACLE = np.load(Path(__file__).parent / "oracles" / "metrics.npz")

GRIDS = (2, 3, 4, 7, 14)
BATCHES = ((1, 1), (2, 3))
DTYPES = (torch.float32, torch.bfloat16)
known_answers = pytest.mark.parametrize(
    ("grid", "batch", "dtype"), [(grid, batch, dtype) for grid in GRIDS for batch in BATCHES for dtype in DTYPES]
)


def with_cls(patches: torch.Tensor, batch: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """Maps (B, H, 1+N, 1+N) that hold ``patches`` (N, N), rows shared with CLS, and something else in CLS's own row."""
    count = len(patches)
    maps = torch.full((*batch, 1 + count, 1 + count), 0.25)
    maps[..., 1:, 1:] = 0.75 * patches
    return maps.to(dtype)


def random_maps(*size: int, seed: int = 0, sharpness: float = 3.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(*size, generator=generator, dtype=dtype)).softmax(-1)


# ------------------------------------------------------------------------------------------------
# Second implementations: loops over the definitions
# ------------------------------------------------------------------------------------------------


def slow_rows(maps: np.ndarray) -> np.ndarray:
    patches = maps[1:, 1:].astype(np.float64)
    return patches / patches.sum(1, keepdims=True)


def slow_distance(maps: np.ndarray, patch_size: int) -> float:
    rows, total = slow_rows(maps), 0.0
    grid = math.isqrt(len(rows))
    for query in range(len(rows)):
        for key in range(len(rows)):
            down, right = query // grid - key // grid, query % grid - key % grid
            total += rows[query, key] * patch_size * math.hypot(down, right)
    return total / len(rows)


def slow_nmi(maps: np.ndarray) -> float:
    joint = slow_rows(maps) / (len(maps) - 1)  # p(q, k)
    p_query, p_key = joint.sum(1), joint.sum(0)
    information = 0.0
    for query in range(len(joint)):
        for key in range(len(joint)):
            if joint[query, key] > 0:
                information += joint[query, key] * math.log(joint[query, key] / p_query[query] / p_key[key])
    entropies = [-sum(p * math.log(p) for p in marginal if p > 0) for marginal in (p_query, p_key)]
    return information / math.sqrt(entropies[0] * entropies[1])


def slow_entropy(maps: np.ndarray) -> float:
    rows = slow_rows(maps)
    return float(np.mean([-sum(p * math.log(p) for p in row if p > 0) for row in rows])) / math.log(len(rows))


def slow_similarity(maps: np.ndarray) -> float:
    rows = slow_rows(maps)
    cosines = []
    for one in range(len(rows)):
        for other in range(len(rows)):
            if one != other:
                cosines.append(rows[one] @ rows[other] / np.linalg.norm(rows[one]) / np.linalg.norm(rows[other]))
    return float(np.mean(cosines))


# ------------------------------------------------------------------------------------------------
# Answers
# ------------------------------------------------------------------------------------------------


def test_the_notebooks_give_the_same_values():
    maps, patch_size = torch.from_numpy(ORACLE["attention"]), int(ORACLE["patch_size"])
    distance, nmi = attention_distance(maps, patch_size), normalized_mutual_information(maps)
    assert distance.shape == nmi.shape == (3, 4)
    np.testing.assert_allclose(distance, ORACLE["attention_distance"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(nmi, ORACLE["nmi"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
@pytest.mark.parametrize(("batch", "heads", "grid"), [(1, 1, 2), (2, 3, 3), (1, 2, 6)])
def test_the_definitions_in_loops_give_the_same_values(batch, heads, grid, sharpness):
    maps = random_maps(batch, heads, 1 + grid**2, 1 + grid**2, sharpness=sharpness)
    reduced = normalized_mutual_information, attention_entropy, query_similarity
    found = attention_distance(maps, 5), *(metric(maps) for metric in reduced)
    single = attention_distance(maps.float(), 5), normalized_mutual_information(maps.float())
    for b in range(batch):
        for h in range(heads):
            one = maps[b, h].numpy()
            wanted = slow_distance(one, 5), slow_nmi(one), slow_entropy(one), slow_similarity(one)
            assert [metric[b, h].item() for metric in found] == pytest.approx(wanted, abs=1e-5)  # eps
            assert [metric[b, h].item() for metric in single] == pytest.approx(wanted[:2], rel=1e-4, abs=1e-5)


@known_answers
def test_every_query_looks_at_itself(grid, batch, dtype):
    maps = with_cls(torch.eye(grid**2), batch, dtype)
    torch.testing.assert_close(attention_distance(maps, 16), torch.zeros(batch), rtol=0, atol=1e-6)
    torch.testing.assert_close(normalized_mutual_information(maps), torch.ones(batch), rtol=0, atol=1e-4)
    torch.testing.assert_close(attention_entropy(maps), torch.zeros(batch), rtol=0, atol=1e-6)
    torch.testing.assert_close(query_similarity(maps), torch.zeros(batch), rtol=0, atol=1e-6)


@known_answers
def test_every_query_has_another_key_of_its_own(grid, batch, dtype):
    permutation = torch.roll(torch.eye(grid**2), 1, dims=1)
    maps = with_cls(permutation, batch, dtype)
    torch.testing.assert_close(normalized_mutual_information(maps), torch.ones(batch), rtol=0, atol=1e-4)
    assert (attention_distance(maps, 16) >= 16).all()


@known_answers
def test_uniform_attention(grid, batch, dtype):
    maps = with_cls(torch.full((grid**2, grid**2), 1 / grid**2), batch, dtype)
    total = sum(
        math.hypot(a - c, b - d) for a in range(grid) for b in range(grid) for c in range(grid) for d in range(grid)
    )
    expected = 16 * total / grid**4
    assert uniform_attention_distance(grid, 16) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(attention_distance(maps, 16), torch.full(batch, expected), rtol=1e-5, atol=0)
    torch.testing.assert_close(normalized_mutual_information(maps), torch.zeros(batch), rtol=0, atol=1e-5)
    torch.testing.assert_close(attention_entropy(maps), torch.ones(batch), rtol=0, atol=1e-5)
    torch.testing.assert_close(query_similarity(maps), torch.ones(batch), rtol=0, atol=1e-5)


def test_the_published_size_of_uniform_attention():
    assert uniform_attention_distance(14, 16) == pytest.approx(116.49, abs=0.005)  # PAPER: Fig. 3


@known_answers
def test_all_queries_look_at_one_key(grid, batch, dtype):
    key = grid + 1  # row 1, column 1
    single = torch.zeros(grid**2, grid**2)
    single[:, key] = 1
    maps = with_cls(single, batch, dtype)
    expected = 4 * np.mean([math.hypot(row - 1, column - 1) for row in range(grid) for column in range(grid)])
    torch.testing.assert_close(attention_distance(maps, 4), torch.full(batch, expected).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(normalized_mutual_information(maps), torch.zeros(batch), rtol=0, atol=1e-4)
    torch.testing.assert_close(attention_entropy(maps), torch.zeros(batch), rtol=0, atol=1e-6)
    torch.testing.assert_close(query_similarity(maps), torch.ones(batch), rtol=0, atol=1e-5)


def test_rows_that_only_look_at_cls_count_as_uniform():
    maps = torch.zeros(1, 1, 10, 10)
    maps[..., 0] = 1
    assert attention_distance(maps, 8).item() == pytest.approx(uniform_attention_distance(3, 8), rel=1e-5)
    assert attention_entropy(maps).item() == pytest.approx(1, abs=1e-5)
    assert query_similarity(maps).item() == pytest.approx(1, abs=1e-5)
    assert normalized_mutual_information(maps).item() == pytest.approx(0, abs=1e-5)


# ------------------------------------------------------------------------------------------------
# Invariances
# ------------------------------------------------------------------------------------------------

METRICS = {
    "distance": lambda maps: attention_distance(maps, 4),
    "nmi": normalized_mutual_information,
    "entropy": attention_entropy,
    "query similarity": query_similarity,
}
metrics = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


@metrics
def test_cls_does_not_matter(metric):
    maps = random_maps(2, 3, 17, 17)
    other = maps.clone()
    other[..., 0, :] = torch.rand(17, dtype=torch.float64)
    other[..., 1:, 1:] *= 0.3  # CLS takes more of every row, the patches' shares stay
    other[..., 1:, 0] = 0.7
    torch.testing.assert_close(metric(other), metric(maps), rtol=0, atol=1e-5)  # eps weighs more


@metrics
def test_heads_and_images_do_not_see_each_other(metric):
    maps = random_maps(2, 4, 10, 10)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(metric(maps[:, order]), metric(maps)[:, order])
    torch.testing.assert_close(metric(maps[1:, 2:3]), metric(maps)[1:, 2:3])


@metrics
def test_mirrored_maps_are_alike(metric):
    maps = random_maps(1, 2, 17, 17)
    patches = maps[..., 1:, 1:].unflatten(-1, (4, 4)).unflatten(-3, (4, 4))
    mirrored = maps.clone()
    mirrored[..., 1:, 1:] = patches.flip(-1, -3).flatten(-2).flatten(-3, -2)
    torch.testing.assert_close(metric(mirrored), metric(maps))


def test_distance_grows_with_the_patch():
    maps = random_maps(1, 2, 17, 17)
    torch.testing.assert_close(attention_distance(maps, 32), 4 * attention_distance(maps, 8))


@metrics
@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_precision_is_at_least_float32_and_inputs_are_left_alone(metric, dtype, result):
    maps = random_maps(2, 2, 17, 17, sharpness=1.0).to(dtype)
    before = maps.clone()
    values = metric(maps)
    assert values.dtype == result and torch.equal(maps, before)
    torch.testing.assert_close(values.double(), metric(maps.double()), rtol=1e-5, atol=1e-6)


@metrics
def test_metrics_work_inside_and_outside_inference_mode(metric):
    maps = random_maps(1, 1, 26, 26, dtype=torch.float32)
    with torch.inference_mode():
        first = metric(maps)
    gradient_input = maps.clone().requires_grad_()
    metric(gradient_input).sum().backward()
    torch.testing.assert_close(metric(maps), first.clone())
    assert torch.isfinite(gradient_input.grad).all()


@metrics
@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 2, 13, 13), "12 patch tokens"), ((2, 17, 17), "not"), ((1, 2, 17, 16), "not"), ((1, 1, 1, 1), "not")],
)
def test_other_shapes_are_refused(metric, shape, message):
    with pytest.raises(ValueError, match=message):
        metric(torch.ones(shape))


@pytest.mark.parametrize("metric", [normalized_mutual_information, attention_entropy])
def test_one_patch_has_no_information(metric):
    with pytest.raises(ValueError, match="2x2"):
        metric(torch.full((1, 1, 2, 2), 0.5))


# ------------------------------------------------------------------------------------------------
# Maps of single queries
# ------------------------------------------------------------------------------------------------


def test_rows_of_queries_are_the_renormalised_rows():
    maps = random_maps(2, 3, 10, 10)
    rows = attention_rows(maps, [(0, 1), (2, 2)])
    assert rows.shape == (2, 3, 2, 3, 3)
    wanted = slow_rows(maps[1, 2].numpy())
    np.testing.assert_allclose(rows[1, 2, 0].flatten(), wanted[1], rtol=1e-9)
    np.testing.assert_allclose(rows[1, 2, 1].flatten(), wanted[8], rtol=1e-9)


@pytest.mark.parametrize("query", [(3, 0), (0, 3), (-1, 0)])
def test_queries_outside_the_grid_are_refused(query):
    with pytest.raises(ValueError, match="3x3 grid"):
        attention_rows(random_maps(1, 1, 10, 10), [query])
