"""Movement of tokens: closed forms, and the coordinates of Figure 6."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cl_vs_mim.analysis.movement import movement_tokens_table
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.metrics.movement import centroid_separation, displacement_variation, token_mean, within_spread


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_vector_for_all_tokens_varies_by_nothing():
    before = draw(2, 10, 4)
    moved = displacement_variation(before, before + draw(2, 1, 4, seed=1))
    torch.testing.assert_close(moved, torch.zeros(2), atol=1e-6, rtol=0)


def test_known_displacements_and_cls_does_not_matter():
    before = draw(1, 5, 2)
    steps = torch.tensor([[50.0, 50.0], [2.0, 0.0], [4.0, 0.0], [3.0, 1.0], [3.0, -1.0]])  # mean (3, 0)
    # squared deviations 1, 1, 1, 1 over squared mean 9
    torch.testing.assert_close(displacement_variation(before, before + steps), torch.tensor([1 / 9]))
    torch.testing.assert_close(displacement_variation(before, before + 7 * steps), torch.tensor([1 / 9]))


def test_displacements_that_cancel_are_infinite():
    before = torch.zeros(1, 3, 2)
    after = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]])
    assert displacement_variation(before, after).isinf().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_mean_and_spread_by_hand(dtype):
    tokens = draw(3, 7, 4).to(dtype)
    patches = tokens.double().numpy()[:, 1:]
    np.testing.assert_allclose(token_mean(tokens), patches.mean(1), atol=1e-6)
    spread = [np.sqrt(((image - image.mean(0)) ** 2).sum(1).mean()) for image in patches]
    np.testing.assert_allclose(within_spread(tokens), spread, rtol=1e-5)


def test_separation_is_in_units_of_the_spread_and_cyclic():
    means = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])
    spreads = np.array([1.0, 7.0, 1.0])
    expected = [5 / 5, 4 / 5, 3 / 1]  # root mean squares of (1, 7), (7, 1), (1, 1)
    np.testing.assert_allclose(centroid_separation(means, spreads), expected)
    np.testing.assert_allclose(centroid_separation(10 * means, 10 * spreads), expected)
    assert np.isinf(centroid_separation(means, np.zeros(3))).all()
    with pytest.raises(ValueError, match="two images"):
        centroid_separation(means[:1], spreads[:1])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        displacement_variation(draw(1, 5, 2), draw(1, 5, 3))


@pytest.mark.parametrize("basis", ["joint", "separate"])
def test_coordinates_are_those_of_the_leading_singular_vectors(basis):
    spec = EncoderSpec(
        family="beit",
        positions="relative",
        layer_scale=0.1,
        image_size=16,
        patch_size=4,
        width=12,
        depth=3,
        heads=2,
    )
    encoder = build_encoder(spec, 0).eval()
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = movement_tokens_table(encoder, pixels, ["a.jpg", "b.jpg"], early=0, late=2, basis=basis)
    assert len(table) == 3 * 2 * (1 + 2) * 16
    keys = ["image", "count", "place", "when", "row", "col"]
    assert not table.duplicated(keys).any()
    assert set(table.loc[table["count"] == 1, "image"]) == {"a.jpg"}
    depths = table.groupby("place")[["depth_before", "depth_after"]].first()
    assert depths.loc["early"].tolist() == [0, 0.5] and depths.loc["late"].tolist() == [2, 2.5]
    assert depths.loc["network"].tolist() == [0, 3]

    states = encoder.states(normalise(pixels))
    pairs = {"early": (0, 1), "late": (4, 5), "network": (0, 6)}
    panels = {place: torch.stack([states[i][:, 1:] for i in pair]) for place, pair in pairs.items()}
    for place, tokens in panels.items():  # (when, image, N, D)
        rows = table[(table["place"] == place) & (table["count"] == 2)].sort_values(
            ["when", "image", "row", "col"],
            key=lambda column: (
                column.map({"before": 0, "after": 1}).fillna(column) if column.name == "when" else column
            ),
        )
        found = rows[["x", "y", "z"]].to_numpy().reshape(2, 2, 16, 3)
        group = list(panels.values()) if basis == "joint" else [tokens]
        everything = torch.cat([panel.reshape(-1, 12) for panel in group]).double().numpy()
        centre = everything.mean(0)
        axes = np.linalg.svd(everything - centre)[2][:3]
        wanted = (tokens.double().numpy() - centre) @ axes.T
        np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=1e-3, atol=1e-3)  # up to the signs of the axes
