"""The backbone of detection and segmentation is the encoder: tokens, windows and other sizes, for both families."""

from __future__ import annotations

import pytest
import torch

from cl_vs_mim.encoder.model import Encoder, EncoderSpec, build_encoder
from cl_vs_mim.transfer.dense import DenseEncoder, _cut, _join

SPECS = {
    "vit": EncoderSpec(family="vit", image_size=32, patch_size=8, width=24, depth=3, heads=2, positions="sincos"),
    "learned": EncoderSpec(family="vit", image_size=32, patch_size=8, width=24, depth=3, heads=2, positions="learned"),
    "beit": EncoderSpec(
        **{"family": "beit", "image_size": 32, "patch_size": 8, "width": 24, "depth": 3, "heads": 2},
        **{"positions": "relative", "layer_scale": 0.1},
    ),
    "own tables": EncoderSpec(
        **{"family": "beit", "image_size": 32, "patch_size": 8, "width": 24, "depth": 3, "heads": 2},
        **{"positions": "relative_by_block", "layer_scale": 0.1},
    ),
}


def perturbed(name: str) -> Encoder:
    built = build_encoder(SPECS[name], seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # nothing that could be dropped may be at its neutral value
        for name, parameter in built.named_parameters():
            if not name.endswith("pos_embed"):
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return built


@pytest.fixture(params=SPECS)
def encoder(request) -> Encoder:
    return perturbed(request.param)


def images(size: int = 32, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("window", [None, 4])
def test_at_its_own_size_the_features_are_the_encoders_tokens(encoder: Encoder, window: int | None) -> None:
    states = encoder.states(images())
    features = DenseEncoder(encoder, (0, 2), window)(images())
    for block, feature in zip((0, 2), features, strict=True):
        assert feature.shape == (2, 24, 4, 4)
        tokens = states[2 * (block + 1)][:, 1:]
        torch.testing.assert_close(feature.flatten(2).transpose(1, 2), tokens, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["gamma_1", "rel_pos_bias", "cls_token", "pos_embed"])
def test_what_pre_training_shaped_reaches_the_features(part: str) -> None:
    family = "vit" if part == "pos_embed" else "beit"
    encoder = perturbed(family)
    dense = DenseEncoder(encoder, (2,), window=4, global_blocks=(1,))
    before = dense(images(64))[0]
    touched = 0
    for name, parameter in encoder.named_parameters():
        if part in name:
            parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
            touched += 1
    assert touched
    assert (dense(images(64))[0] - before).abs().max() > 1e-3


def test_larger_and_oblong_images_have_larger_maps(encoder: Encoder) -> None:
    dense = DenseEncoder(encoder, (1, 2), window=4, global_blocks=(2,))
    oblong = torch.randn(1, 3, 32, 96)
    assert [tuple(feature.shape) for feature in dense(oblong)] == [(1, 24, 4, 12)] * 2
    with pytest.raises(ValueError, match="pad them to a multiple of 32 px"):
        dense(torch.randn(1, 3, 32, 40))


def test_windows_do_not_see_each_other_and_global_blocks_do(encoder: Encoder) -> None:
    changed = images(64).clone()
    changed[..., 32:, 32:] += 1.0  # the last window only
    for blocks, seen in (((), False), ((0, 1, 2), True)):
        dense = DenseEncoder(encoder, (0,), window=4, global_blocks=blocks)
        difference = (dense(images(64))[0] - dense(changed)[0]).abs().amax(dim=(0, 1))
        assert difference[4:, 4:].min() > 0
        assert bool(difference[:4, :4].max() > 1e-6) is seen


def test_cutting_and_joining_is_the_identity() -> None:
    tokens = torch.randn(3, 1 + 8 * 12, 5)
    windows = _cut(tokens, 8, 12, 4)
    assert windows.shape == (18, 17, 5)
    torch.testing.assert_close(_join(windows, 8, 12, 4), tokens)


def test_blocks_that_do_not_exist_are_refused(encoder: Encoder) -> None:
    for blocks in ((3,), (), (2, 1)):
        with pytest.raises(ValueError, match="do not fit an encoder of 3"):
            DenseEncoder(encoder, blocks)


def test_gradients_reach_the_whole_encoder(encoder: Encoder) -> None:
    sum(feature.square().mean() for feature in DenseEncoder(encoder, (0, 2), 4, (1,))(images(64))).backward()
    idle = [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert set(idle) <= {"backbone.norm.weight", "backbone.norm.bias"}
