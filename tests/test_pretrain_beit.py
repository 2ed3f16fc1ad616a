"""BEiT and its tokenizer: masks, codes, what may be seen, and the file between the two."""

from __future__ import annotations

import math

import pytest
import torch

from cl_vs_mim.config import Architecture, Model
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, save_encoder
from cl_vs_mim.encoder.decoders import DecoderSpec, build_decoder
from cl_vs_mim.encoder.decoders.vq import VQDecoder
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.pretrain.beit import blockwise_mask
from cl_vs_mim.pretrain.registry import build_objective

TRAINING = dict(
    epochs=1, warmup_epochs=0, batch_size=4, base_lr=1e-3, lr_batch=4, weight_decay=0.1, checkpoint_steps=1, log_steps=1
)
CROP = dict(crop_scale=(0.5, 1))
CODES = 12


def build(objective: dict, paradigm: str = "mim", family: str = "beit"):
    shape = dict(positions="sincos") if family == "vit" else dict(positions="relative", layer_scale=0.1)
    architecture = Architecture(
        label="t", family=family, image_size=16, patch_size=4, width=16, depth=2, heads=2, **shape
    )
    model = Model(label="m", paradigm=paradigm, architecture="a", seeds=[0], objective=objective, training=TRAINING)
    return build_objective(model, architecture, seed=3)


def tokenizer(**changes):
    objective = dict(method="vq_tokenizer", codes=CODES, code_width=6, momentum=0.5, views=[CROP])
    return build(objective | changes, "tokenizer", "vit")


def beit():
    objective = dict(method="beit", tokenizer="t", codes=CODES, mask_ratio=0.4, least_block=3, views=[CROP])
    built = build(objective)
    source = tokenizer()
    built.attach(source.encoder, source.decoder)
    return built


def images(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------
# Mask
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "ratio", "least", "hidden"), [(14, 0.4, 16, 78), (6, 0.4, 3, 14), (4, 0.4, 3, 6), (5, 0.9, 4, 22)]
)
def test_every_image_hides_the_same_number(grid, ratio, least, hidden):
    masks = blockwise_mask(50, grid, ratio, least, torch.Generator().manual_seed(0))
    assert masks.shape == (50, grid, grid) and set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masks.sum((1, 2)), torch.full((50,), float(hidden)))
    assert torch.equal(masks, blockwise_mask(50, grid, ratio, least, torch.Generator().manual_seed(0)))
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 30


def test_hidden_patches_lie_together():
    """Far more hidden neighbours than single random patches would have."""
    masks = blockwise_mask(200, 14, 0.4, 16, torch.Generator().manual_seed(0))
    both = (masks[:, :, 1:] * masks[:, :, :-1]).sum((1, 2)).mean() / masks.sum((1, 2)).mean()
    assert both > 0.7  # by chance: 0.4 * 13 / 14 = 0.37


def test_masks_that_hide_nothing_or_all_are_refused():
    for ratio in (0.01, 1.0):
        with pytest.raises(ValueError, match="patches"):
            blockwise_mask(1, 4, ratio, 1, None)


# ------------------------------------------------------------------------------------------------
# Tokenizer
# ------------------------------------------------------------------------------------------------


def test_codes_are_the_nearest_entries_and_vectors_have_unit_length():
    decoder = build_decoder(tokenizer().encoder.spec, DecoderSpec("vq", width=6, codes=CODES))
    tokens = torch.randn(2, 17, 16)
    vectors = decoder.vectors(tokens)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 16))
    distances = torch.cdist(vectors, decoder.codebook.expand(2, -1, -1))
    assert torch.equal(decoder.nearest(vectors), distances.argmin(-1))


def test_the_tokenizer_trains_and_its_codebook_follows():
    objective = tokenizer()
    objective.train()
    before = objective.decoder.codebook.clone()
    output = objective([images(4, 1)], torch.Generator().manual_seed(0))
    output.loss.backward()
    assert output.metrics["reconstruction"] > 0 and 1 <= output.metrics["perplexity"] <= CODES
    assert not torch.equal(before, objective.decoder.codebook)
    torch.testing.assert_close(objective.decoder.codebook.norm(dim=-1), torch.ones(CODES))
    for name, parameter in objective.named_parameters():
        if "pos_embed" not in name:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    objective.eval()
    held = objective.decoder.codebook.clone()
    objective([images(4, 2)], None)
    assert torch.equal(held, objective.decoder.codebook)


def test_the_codebook_is_the_running_mean_of_what_chose_it():
    objective = tokenizer(momentum=0.0)
    objective.train()
    x = images(40, 1)
    with torch.no_grad():
        vectors = objective.decoder.vectors(objective.encoder(x))
        codes = objective.decoder.nearest(vectors)
    objective([x], torch.Generator().manual_seed(0))
    for code, count in zip(*codes.unique(return_counts=True), strict=True):
        if count >= 0.05 * codes.numel() / CODES:
            mean = vectors[codes == code].mean(0)
            torch.testing.assert_close(objective.decoder.codebook[code], mean / mean.norm(), atol=1e-5, rtol=1e-4)


def test_a_short_training_lowers_the_reconstruction_error():
    objective = tokenizer(codes=32)
    objective.train()
    x = images(8, 1).repeat(1, 1, 1, 1)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    errors = []
    for step in range(60):
        output = objective([x], torch.Generator().manual_seed(step))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(output.metrics["reconstruction"])
    assert errors[-1] < 0.9 * errors[0]


# ------------------------------------------------------------------------------------------------
# BEiT
# ------------------------------------------------------------------------------------------------


def test_beit_predicts_the_codes_of_hidden_patches_only():
    objective = beit().eval()
    x = images(3, 1)
    output = objective([x], torch.Generator().manual_seed(4))
    mask = blockwise_mask(3, 4, 0.4, 3, torch.Generator().manual_seed(4))
    logits = objective.head(objective.encoder(x, mask, objective.mask_token)[:, 1:]).detach().double()
    codes = objective.codes(x)
    losses = [-logits[b, n].log_softmax(-1)[codes[b, n]].item() for b, n in mask.flatten(1).nonzero().tolist()]
    assert output.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert codes.shape == (3, 16) and int(codes.min()) >= 0 and int(codes.max()) < CODES


def test_beit_trains_itself_and_not_its_tokenizer():
    objective = beit()
    objective.train()
    output = objective([images(4, 1)], torch.Generator().manual_seed(0))
    output.loss.backward()
    assert output.loss.item() == pytest.approx(math.log(CODES), rel=0.2), "an untrained head knows nothing"
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert not any("tokenizer" in name for name in objective.state_dict())


def test_a_tokenizer_of_another_grid_or_codebook_is_refused():
    objective, source = beit(), tokenizer(codes=5)
    with pytest.raises(ValueError, match=r"has 5 codes, objective\.codes is 12"):
        objective.attach(source.encoder, source.decoder)
    fields = dict(positions="sincos", image_size=32, patch_size=4, width=16, depth=1, heads=2)
    other = build_encoder(EncoderSpec(family="vit", **fields), 0)
    with pytest.raises(ValueError, match="the tokenizer is for 32 px images of 4 px patches, the encoder for 16 and 4"):
        objective.attach(other, VQDecoder(other.spec, DecoderSpec("vq", width=6, codes=CODES)))


def test_the_tokenizer_travels_in_a_native_file(tmp_path):
    source, x = tokenizer().eval(), images(2, 1)
    save_encoder(tmp_path / "t.safetensors", source.encoder, {}, decoder=source.export_decoder())
    encoder = load_encoder(tmp_path / "t.safetensors", "native")
    decoder = load_decoder(tmp_path / "t.safetensors", "native", encoder)
    assert torch.equal(decoder.codebook, source.decoder.codebook)
    codes = decoder.nearest(decoder.vectors(encoder(x)))
    assert torch.equal(codes, source.decoder.nearest(source.decoder.vectors(source.encoder(x))))
    assert decoder.reconstruct(encoder, x).shape == x.shape
