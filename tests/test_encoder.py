"""The encoder: the traced path against the fused one, what it returns, positions, masks, seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cl_vs_mim.encoder.model import Encoder, EncoderSpec, build_encoder, sincos_positions

ORACLES = Path(__file__).parent / "oracles"

SPECS = {
    "vit": EncoderSpec("vit", 32, 8, 24, 3, 3),
    "vit with LayerScale": EncoderSpec("vit", 24, 4, 32, 2, 8, positions="learned", layer_scale=0.3),
    "vit of one head": EncoderSpec("vit", 28, 2, 16, 1, 1, mlp_ratio=2.0),
    "beit": EncoderSpec("beit", 32, 8, 24, 3, 3, positions="relative", layer_scale=0.1),
    "beit, a table of each block": EncoderSpec("beit", 32, 8, 24, 3, 3, positions="relative_by_block", layer_scale=0.1),
    "beit without LayerScale": EncoderSpec("beit", 20, 4, 32, 2, 4, positions="relative"),
    "beit in training mode": EncoderSpec("beit", 24, 8, 24, 4, 2, positions="relative", layer_scale=0.1, drop_path=0.5),
}


def shaken(spec: EncoderSpec, seed: int = 0) -> Encoder:
    """An encoder no tensor of which is zero or one: biases, LayerScale and bias tables all count."""
    encoder = build_encoder(spec, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return encoder.eval()


def pictures(spec: EncoderSpec, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_the_traced_path_is_the_fused_path(spec):
    encoder, images = shaken(spec), pictures(spec)
    with torch.no_grad():
        fused = encoder(images)
        traced = encoder.norm(encoder.states(images)[-1])
    torch.testing.assert_close(traced, fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", [SPECS["vit"], SPECS["beit"]], ids=["vit", "beit"])
def test_bfloat16_stays_near_float32(spec):
    encoder, images = shaken(spec), pictures(spec)
    with torch.no_grad():
        reference = encoder(images)
        encoder.to(torch.bfloat16)
        traced = encoder.norm(encoder.states(images.bfloat16())[-1])
        fused = encoder(images.bfloat16())
    assert traced.dtype == fused.dtype == torch.bfloat16
    for found in (traced, fused):
        assert (found.float() - reference).abs().mean() < 0.03 * reference.abs().mean()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_states_and_attentions_have_their_number_shape_and_order(spec):
    encoder, images = shaken(spec), pictures(spec)
    states, attentions = encoder.states(images), encoder.attentions(images)
    tokens = 1 + spec.grid**2
    assert len(states) == 2 * spec.depth + 1 and len(attentions) == spec.depth
    assert {tuple(state.shape) for state in states} == {(2, tokens, spec.width)}
    assert {tuple(attention.shape) for attention in attentions} == {(2, spec.heads, tokens, tokens)}
    for attention in attentions:
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, spec.heads, tokens), rtol=0, atol=1e-5)
    assert torch.equal(states[0], encoder.embed(images))
    tokens = states[0]
    with torch.no_grad():
        for block, (middle, after) in enumerate(zip(states[1::2], states[2::2], strict=True)):
            module = encoder.backbone.blocks[block]
            bias = {"shared_rel_pos_bias": encoder.backbone.rel_pos_bias()} if spec.positions == "relative" else {}
            tokens = module(tokens, **bias)
            torch.testing.assert_close(after, tokens, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(middle, after, atol=1e-3)  # the MLP's half does something


def test_stochastic_depth_does_not_touch_what_is_looked_at():
    spec = SPECS["beit in training mode"]
    encoder, images = shaken(spec), pictures(spec)
    evaluated = encoder.states(images)
    encoder.train()
    for before, now in zip(evaluated, encoder.states(images), strict=True):
        assert torch.equal(before, now)


def test_relative_bias_moves_the_attention():
    spec = SPECS["beit"]
    encoder, images = shaken(spec), pictures(spec)
    with_bias = encoder.attentions(images)[0]
    encoder.backbone.rel_pos_bias.relative_position_bias_table.data.zero_()
    assert (with_bias - encoder.attentions(images)[0]).abs().max() > 1e-3


# ------------------------------------------------------------------------------------------------
# Positions and masks
# ------------------------------------------------------------------------------------------------


def test_sincos_positions_are_those_of_moco_v3():
    state = torch.load(ORACLES / "moco_v3.pth", weights_only=True)["state_dict"]
    expected = state["module.base_encoder.pos_embed"]
    positions = sincos_positions(grid=4, width=24)
    torch.testing.assert_close(positions.data, expected, rtol=0, atol=1e-6)
    assert not positions.requires_grad


@pytest.mark.parametrize("spec", [SPECS["vit"], SPECS["beit"]], ids=["vit", "beit"])
def test_masked_patches_become_the_mask_token_before_positions(spec):
    encoder, images = shaken(spec), pictures(spec)
    mask = (torch.rand(2, spec.grid, spec.grid, generator=torch.Generator().manual_seed(2)) < 0.5).long()
    token = torch.randn(1, 1, spec.width)
    masked, plain = encoder.embed(images, mask, token), encoder.embed(images)
    positions = encoder.backbone.pos_embed
    for image in range(2):
        assert torch.equal(masked[image, 0], plain[image, 0])
        for patch in range(spec.grid**2):
            expected = plain[image, 1 + patch]
            if mask[image, patch // spec.grid, patch % spec.grid]:
                expected = token[0, 0] + (0 if positions is None else positions[0, 1 + patch])
            torch.testing.assert_close(masked[image, 1 + patch], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(24, 24), (32, 40), (64, 64)])
def test_images_of_another_size_are_refused(size):
    with pytest.raises(ValueError, match=r"32x32 images, not \(\d+, \d+\)"):
        shaken(SPECS["vit"])(torch.zeros(1, 3, *size))


# ------------------------------------------------------------------------------------------------
# Construction
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPECS["vit"], SPECS["beit"]], ids=["vit", "beit"])
def test_weights_come_from_the_seed_alone(spec):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build_encoder(spec, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    again, other = build_encoder(spec, seed=1).state_dict(), build_encoder(spec, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith(("qkv.weight", "fc1.weight", "proj.weight", "cls_token"))]
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 33},
        {"heads": 5},
        {"positions": "relative"},
        {"family": "beit"},
        {"width": 27},
    ],
)
def test_specifications_that_contradict_themselves_are_refused(wrong):
    with pytest.raises(ValueError):
        EncoderSpec(**SPECS["vit"].to_dict() | wrong)
