"""Decoders: the originals' answers, native files, and what may be seen of hidden patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, save_encoder
from cl_vs_mim.encoder.decoders import DecoderSpec, build_decoder
from cl_vs_mim.encoder.decoders.mae import MAEDecoder, encode_visible
from cl_vs_mim.encoder.decoders.patches import patchify, unpatchify
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder

ORACLES = Path(__file__).parent / "oracles"
SHAPE = {"img_size": 32, "patch_size": 8, "num_heads": 3}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def spec(family: str = "vit", **changes) -> EncoderSpec:
    fields = dict(family=family, image_size=16, patch_size=4, width=16, depth=2, heads=2)
    fields |= dict(positions="sincos") if family == "vit" else dict(positions="relative", layer_scale=0.1)
    return EncoderSpec(**(fields | changes))


def images(count: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def official():
    encoder = load_encoder(ORACLES / "mae.pth", "mae", **SHAPE)
    return encoder, load_decoder(ORACLES / "mae.pth", "mae", encoder, num_heads=2, norm_pix=True)


# ------------------------------------------------------------------------------------------------
# The originals
# ------------------------------------------------------------------------------------------------


def test_maes_decoder_is_the_originals(official):
    encoder, decoder = official
    with np.load(ORACLES / "mae_expected.npz") as expected:
        tokens = torch.from_numpy(expected["final_norm"])
        states = decoder.states(tokens)
        assert len(states) == 5
        for place, state in enumerate(states):
            np.testing.assert_allclose(state, expected[f"decoder_state_{place:02}"], **TOLERANCE)
        with torch.no_grad():
            np.testing.assert_allclose(decoder(tokens), expected["decoder_prediction"], **TOLERANCE)
            np.testing.assert_allclose(encoder(torch.from_numpy(expected["image"])), tokens, **TOLERANCE)


def test_what_tensors_do_not_tell_has_to_be_given(official):
    encoder, _ = official
    with pytest.raises(UserError, match="give num_heads and norm_pix"):
        load_decoder(ORACLES / "mae.pth", "mae", encoder)
    with pytest.raises(UserError, match="family 'dino' have no decoder"):
        load_decoder(ORACLES / "dino.pth", "dino", encoder)


def test_simmims_head_is_the_originals():
    encoder = load_encoder(ORACLES / "simmim.pth", "simmim", **SHAPE)
    decoder = load_decoder(ORACLES / "simmim.pth", "simmim", encoder)
    x, mask = images(2, 32), torch.zeros(2, 4, 4)
    tokens = encoder(x)[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(decoder.reconstruct(encoder, x, mask), decoder.head(tokens), rtol=1e-4, atol=1e-5)
    with np.load(ORACLES / "objectives.npz") as oracle:  # convolution and shuffle, of other sizes
        other = build_decoder(spec("beit", width=20, patch_size=8, image_size=32), DecoderSpec(method="simmim"))
        weights = {"weight": oracle["simmim_decoder_weight"], "bias": oracle["simmim_decoder_bias"]}
        other.head[0].load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        found = other.head(torch.from_numpy(oracle["simmim_tokens"]))
        np.testing.assert_allclose(found.detach(), oracle["simmim_decoded"], **TOLERANCE)


# ------------------------------------------------------------------------------------------------
# Patches
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "size", "patch"), [(1, 4, 4), (2, 12, 4), (3, 10, 2)])
def test_patches_by_a_loop_and_back(batch, size, patch):
    x = images(batch, size)
    found = patchify(x, patch)
    grid = size // patch
    for row in range(grid):
        for col in range(grid):
            cut = x[:, :, row * patch : (row + 1) * patch, col * patch : (col + 1) * patch]
            torch.testing.assert_close(found[:, row * grid + col], cut.permute(0, 2, 3, 1).flatten(1))
    torch.testing.assert_close(unpatchify(found, patch), x)


def test_images_that_are_not_whole_patches_are_refused():
    for shape in ((1, 3, 10, 10), (1, 3, 8, 12)):
        with pytest.raises(ValueError, match="not squares of 4 px patches"):
            patchify(torch.zeros(shape), 4)


# ------------------------------------------------------------------------------------------------
# Visible patches
# ------------------------------------------------------------------------------------------------


def mae_decoder(norm_pix: bool = False) -> MAEDecoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fields = DecoderSpec(method="mae", width=8, depth=2, heads=2, norm_pix=norm_pix)
        return build_decoder(spec(), fields).eval()


def test_tokens_go_to_their_places_and_mask_tokens_elsewhere():
    decoder = mae_decoder()
    tokens = torch.randn(2, 1 + 3, 16)
    visible = torch.tensor([[5, 0, 12], [1, 2, 15]])
    placed = decoder.place(tokens, visible) - decoder.positions
    embedded = decoder.embed(tokens)
    for image in range(2):
        torch.testing.assert_close(placed[image, 0], embedded[image, 0])
        for slot, place in enumerate(visible[image].tolist()):
            torch.testing.assert_close(placed[image, 1 + place], embedded[image, 1 + slot], atol=1e-6, rtol=1e-5)
        hidden = [place for place in range(16) if place not in visible[image].tolist()]
        wanted = decoder.mask_token[0, 0].expand(13, -1)
        torch.testing.assert_close(placed[image, 1:][hidden], wanted, atol=1e-6, rtol=1e-5)


def test_all_patches_in_any_order_are_a_full_pass():
    encoder, decoder, x = build_encoder(spec(), 0).eval(), mae_decoder(), images(2)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    with torch.no_grad():
        torch.testing.assert_close(decoder(encode_visible(encoder, x, order), order), decoder(encoder(x)))


@pytest.mark.parametrize("norm_pix", [False, True])
def test_hidden_pixels_do_not_matter_but_for_their_normalisation(norm_pix):
    encoder, decoder, x = build_encoder(spec(), 0).eval(), mae_decoder(norm_pix), images(2)
    mask = torch.zeros(2, 4, 4)
    mask[:, 1:3] = 1
    hidden = mask.repeat_interleave(4, 1).repeat_interleave(4, 2).unsqueeze(1)
    shifted = decoder.reconstruct(encoder, x + 2 * hidden, mask)
    expected = decoder.reconstruct(encoder, x, mask) + (2 * hidden if norm_pix else 0)
    torch.testing.assert_close(shifted, expected, atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------
# Native files
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mae", "simmim"])
def test_a_decoder_travels_beside_its_encoder(tmp_path, method):
    encoder = build_encoder(spec("vit" if method == "mae" else "beit"), 0).eval()
    fields = DecoderSpec(method="simmim") if method == "simmim" else DecoderSpec("mae", 8, 2, 2, norm_pix=True)
    decoder = build_decoder(encoder.spec, fields).eval()
    path = tmp_path / "e.safetensors"
    save_encoder(path, encoder, {"seed": 0}, decoder=decoder)
    again = load_encoder(path, "native")
    x, mask = images(2), torch.eye(4).expand(2, -1, -1)
    torch.testing.assert_close(again(x), encoder(x))
    loaded = load_decoder(path, "native", again)
    assert loaded.spec == fields
    torch.testing.assert_close(loaded.reconstruct(again, x, mask), decoder.reconstruct(encoder, x, mask))
    save_encoder(path, encoder, {}, dtype=torch.float16, decoder=decoder)
    assert load_decoder(path, "native", again).spec == fields


def test_a_file_without_a_decoder_says_so(tmp_path):
    encoder = build_encoder(spec(), 0).eval()
    save_encoder(tmp_path / "e.safetensors", encoder, {})
    with pytest.raises(UserError, match=r"e\.safetensors holds no decoder"):
        load_decoder(tmp_path / "e.safetensors", "native", encoder)
