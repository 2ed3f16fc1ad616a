"""An encoder at another grid: the same weights, positions resampled, both families."""

from __future__ import annotations

import pytest
import torch

from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.encoder.resize import at_grid
from cl_vs_mim.encoder.spec import EncoderSpec
from cl_vs_mim.transfer.dense import DenseEncoder

SHAPE = {"image_size": 48, "patch_size": 8, "width": 32, "depth": 2, "heads": 2}
SPECS = {
    "vit": EncoderSpec("vit", **SHAPE, positions="sincos"),
    "learned": EncoderSpec("vit", **SHAPE, positions="learned"),
    "beit": EncoderSpec("beit", **SHAPE, positions="relative", layer_scale=0.1),
}
families = pytest.mark.parametrize("family", SPECS)


def shaken(family: str):
    """An encoder whose positions are not those of a new one."""
    encoder = build_encoder(SPECS[family], seed=3).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@families
def test_its_own_grid_changes_nothing(family: str) -> None:
    encoder, images = shaken(family), torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(at_grid(encoder, 6)(images), encoder(images), rtol=0, atol=1e-6)


@families
@pytest.mark.parametrize("grid", [4, 9])
def test_another_grid_is_what_dense_tasks_see(family: str, grid: int) -> None:
    """Detection's and segmentation's backbone resamples the same way, written apart from this one."""
    encoder, size = shaken(family), 8 * grid
    images = torch.randn(2, 3, size, size)
    other = at_grid(encoder, grid)
    assert (other.spec.grid, other.spec.width, other.training) == (grid, 32, False)
    found = other.states(images)[-1][:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
    (wanted,) = DenseEncoder(encoder, [1])(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@families
def test_the_original_is_left_alone(family: str) -> None:
    encoder = shaken(family)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    other = at_grid(encoder, 4)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
