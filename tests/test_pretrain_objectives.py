"""MoCo v3, SimMIM and MAE: the originals' answers, independent arithmetic, and where gradients may and may not go."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cl_vs_mim.config import Architecture, Model
from cl_vs_mim.encoder.decoders.mae import encode_visible
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.pretrain.mae import masked_patch_loss, patchify, random_patches
from cl_vs_mim.pretrain.moco_v3 import contrastive_loss
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.pretrain.simmim import block_mask, masked_l1_loss
from cl_vs_mim.pretrain.trainer import compile_blocks

TOLERANCE = dict(rtol=1e-4, atol=1e-5)
TRAINING = dict(
    epochs=1, warmup_epochs=0, batch_size=4, base_lr=1e-3, lr_batch=4, weight_decay=0.1, checkpoint_steps=1, log_steps=1
)


@pytest.fixture(scope="module")
def oracle() -> dict[str, torch.Tensor]:
    with np.load(Path(__file__).parent / "oracles" / "objectives.npz") as archive:
        return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}


def moco(freeze: bool = True):
    architecture = Architecture(
        label="t", family="vit", image_size=16, patch_size=4, width=16, depth=2, heads=2, positions="sincos"
    )
    objective = dict(
        method="moco_v3",
        temperature=0.2,
        momentum=0.9,
        projector_hidden=24,
        output_dim=12,
        freeze_patch_projection=freeze,
        views=[dict(crop_scale=(0.5, 1))] * 2,
    )
    model = Model(label="m", paradigm="cl", architecture="a", seeds=[0], objective=objective, training=TRAINING)
    return build_objective(model, architecture, seed=3), architecture


def simmim():
    architecture = Architecture(
        label="t",
        family="beit",
        image_size=16,
        patch_size=4,
        width=16,
        depth=2,
        heads=2,
        positions="relative",
        layer_scale=0.1,
    )
    objective = dict(method="simmim", mask_ratio=0.6, mask_unit=2, views=[dict(crop_scale=(0.67, 1))])
    model = Model(label="m", paradigm="mim", architecture="a", seeds=[0], objective=objective, training=TRAINING)
    return build_objective(model, architecture, seed=3), architecture


def mae(norm_pix: bool = True):
    architecture = Architecture(
        label="t", family="vit", image_size=16, patch_size=4, width=16, depth=2, heads=2, positions="sincos"
    )
    objective = dict(method="mae", mask_ratio=0.75, norm_pix=norm_pix, views=[dict(crop_scale=(0.5, 1))])
    objective |= dict(decoder_width=12, decoder_depth=1, decoder_heads=3)
    model = Model(label="m", paradigm="mim", architecture="a", seeds=[0], objective=objective, training=TRAINING)
    return build_objective(model, architecture, seed=3), architecture


def images(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------
# MoCo v3
# ------------------------------------------------------------------------------------------------


def test_contrastive_loss_is_the_originals(oracle):
    temperature = float(oracle["moco_temperature"])
    one = contrastive_loss(oracle["moco_q"], oracle["moco_k"], temperature)
    torch.testing.assert_close(one, oracle["moco_loss"], **TOLERANCE)
    both = contrastive_loss(oracle["moco_q"], oracle["moco_k2"], temperature) + contrastive_loss(
        oracle["moco_q2"], oracle["moco_k"], temperature
    )
    torch.testing.assert_close(both, oracle["moco_symmetric_loss"], **TOLERANCE)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize(("batch", "width"), [(1, 3), (5, 8), (32, 20)])
def test_contrastive_loss_by_hand(batch, width, temperature):
    rng = np.random.default_rng(batch)
    q, k = rng.normal(size=(2, batch, width))
    expected = 0.0
    for i in range(batch):
        similarities = [q[i] @ k[j] / np.linalg.norm(q[i]) / np.linalg.norm(k[j]) / temperature for j in range(batch)]
        expected -= similarities[i] - math.log(sum(math.exp(s) for s in similarities))
    expected *= 2 * temperature / batch
    actual = contrastive_loss(torch.from_numpy(q), torch.from_numpy(k), temperature)
    assert actual.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_keys_of_other_processes_are_negatives():
    q, k = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    whole = contrastive_loss(q, k, 0.2)
    parts = [contrastive_loss(q[i : i + 3], k, 0.2, offset=i) for i in (0, 3)]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, whole)


def test_moco_forward_is_the_originals_two_separate_passes():
    objective, _ = moco()
    with torch.no_grad():  # momentum copies that differ from the encoder
        for p in [*objective.momentum_encoder.parameters(), *objective.momentum_projector.parameters()]:
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    objective.train()
    x1, x2 = images(6, 1), images(6, 2)
    actual = objective([x1, x2]).loss

    def query(x):
        return objective.predictor(objective.projector(objective.encoder(x)[:, 0]))

    def key(x):
        return objective.momentum_projector(objective.momentum_encoder(x)[:, 0])

    expected = contrastive_loss(query(x1), key(x2), 0.2) + contrastive_loss(query(x2), key(x1), 0.2)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_moco_heads_are_the_originals():
    objective, _ = moco()
    kinds = [type(layer) for layer in objective.projector]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Linear, nn.BatchNorm1d]
    assert [type(layer) for layer in objective.predictor] == kinds[3:]
    for head in (objective.projector, objective.predictor):
        assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))
        norms = [layer for layer in head if isinstance(layer, nn.BatchNorm1d)]
        assert [norm.affine for norm in norms] == [True] * (len(norms) - 1) + [False]


def test_moco_gradients_stop_where_they_should():
    objective, _ = moco()
    objective.train()
    objective([images(4, 1), images(4, 2)]).loss.backward()
    for name, parameter in objective.named_parameters():
        frozen = name.startswith("momentum_") or "patch_embed" in name or "pos_embed" in name
        assert (parameter.grad is None) == frozen, name
    trained = {id(p) for group in objective.parameter_groups(0.1) for p in group["params"]}
    assert trained == {id(p) for p in objective.parameters() if p.grad is not None}
    unfrozen, _ = moco(freeze=False)
    assert all(p.requires_grad for p in unfrozen.encoder.backbone.patch_embed.parameters())


def test_moco_momentum_copies_follow_on_a_half_cosine():
    objective, _ = moco()
    followers = dict(objective.momentum_encoder.named_parameters())
    name = "backbone.blocks.0.attn.qkv.weight"
    leader = dict(objective.encoder.named_parameters())[name]
    with torch.no_grad():
        leader.add_(1.0)
    before = followers[name].clone()
    for progress, momentum in [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)]:
        objective.before_step(progress)
        assert objective.momentum == pytest.approx(momentum)
        expected = before * momentum + leader * (1 - momentum)
        torch.testing.assert_close(followers[name], expected)
        before = followers[name].clone()


def test_moco_batchnorm_statistics_of_the_copies_are_their_own():
    objective, _ = moco()
    objective.train()
    objective([images(4, 1), images(4, 2)])
    counts = {name: int(buffer) for name, buffer in objective.named_buffers() if name.endswith("num_batches_tracked")}
    assert set(counts.values()) == {2}, "each view is one batch for every BatchNorm"
    assert any(name.startswith("momentum_projector") for name in counts)


# ------------------------------------------------------------------------------------------------
# SimMIM
# ------------------------------------------------------------------------------------------------


def test_masked_l1_loss_is_the_originals(oracle):
    loss = masked_l1_loss(oracle["simmim_image"], oracle["simmim_reconstruction"], oracle["simmim_mask"])
    torch.testing.assert_close(loss, oracle["simmim_loss"], **TOLERANCE)


def test_decoder_is_the_originals(oracle):
    objective, _ = simmim()
    objective.decoder = nn.Sequential(nn.Conv2d(20, 192, 1), nn.PixelShuffle(8))
    objective.decoder[0].load_state_dict(
        {"weight": oracle["simmim_decoder_weight"], "bias": oracle["simmim_decoder_bias"]}
    )
    tokens = oracle["simmim_tokens"].flatten(2).transpose(1, 2)  # (2, 16, 20)
    torch.testing.assert_close(objective.decode(tokens), oracle["simmim_decoded"], **TOLERANCE)


@pytest.mark.parametrize(("batch", "channels", "grid", "patch"), [(1, 3, 2, 4), (3, 3, 6, 8), (2, 1, 5, 3)])
def test_masked_l1_loss_by_hand(batch, channels, grid, patch):
    rng = np.random.default_rng(grid)
    size = grid * patch
    x, y = rng.normal(size=(2, batch, channels, size, size)).astype(np.float32)
    mask = rng.integers(0, 2, size=(batch, grid, grid))
    mask[0, 0, 0] = 1
    total = count = 0.0
    for b in range(batch):
        for row in range(size):
            for column in range(size):
                if mask[b, row // patch, column // patch]:
                    total += np.abs(x[b, :, row, column] - y[b, :, row, column]).sum()
                    count += 1
    expected = total / (count + 1e-5) / channels
    actual = masked_l1_loss(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(mask))
    assert actual.item() == pytest.approx(expected, rel=1e-5)
    assert masked_l1_loss(torch.from_numpy(x), torch.from_numpy(y), torch.zeros(batch, grid, grid)) == 0


@pytest.mark.parametrize(
    ("grid", "unit", "ratio", "hidden"),
    [
        (14, 2, 0.6, 30),
        (6, 2, 0.6, 6),
        (8, 2, 0.5, 8),
        (12, 3, 0.1, 2),
        (4, 1, 1.0, 16),
        (4, 4, 0.6, 1),
        (6, 2, 0.0, 0),
    ],
)
def test_block_mask_has_the_exact_count_of_whole_squares(grid, unit, ratio, hidden):
    masks = block_mask(64, grid, unit, ratio, torch.Generator().manual_seed(0))
    assert masks.shape == (64, grid, grid)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    squares = masks.view(64, grid // unit, unit, grid // unit, unit)
    assert torch.equal(squares.amax(dim=(2, 4)), squares.amin(dim=(2, 4))), "a square is hidden whole or not at all"
    assert torch.equal(squares.amax(dim=(2, 4)).sum(dim=(1, 2)), torch.full((64,), float(hidden)))


def test_block_mask_is_uniform_per_image_and_drawn_by_the_generator():
    masks = block_mask(4000, 6, 2, 0.6, torch.Generator().manual_seed(1))
    frequency = masks.mean(dim=0)  # 6 of 9 squares: each hidden with probability 2/3, sd of the mean 0.0075
    assert (frequency - 2 / 3).abs().max() < 0.04
    assert len(masks.flatten(1).unique(dim=0)) == math.comb(9, 6)
    assert torch.equal(masks, block_mask(4000, 6, 2, 0.6, torch.Generator().manual_seed(1)))
    assert not torch.equal(masks, block_mask(4000, 6, 2, 0.6, torch.Generator().manual_seed(2)))


def test_block_mask_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not tile"):
        block_mask(1, 7, 2, 0.6, torch.Generator())
    with pytest.raises(ValueError, match="ratio"):
        block_mask(1, 6, 2, 1.2, torch.Generator())


def test_simmim_trains_encoder_mask_token_and_head():
    objective, _ = simmim()
    objective.train()
    output = objective([images(4, 1)], torch.Generator().manual_seed(0))
    output.loss.backward()
    assert output.features.shape == (4, 16) and not output.features.requires_grad
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_simmim_cannot_see_what_is_hidden():
    objective, _ = simmim()
    objective.eval()
    x = images(2, 5)
    mask = block_mask(2, 4, 2, 0.6, torch.Generator().manual_seed(9))
    pixels = mask.repeat_interleave(4, 1).repeat_interleave(4, 2).unsqueeze(1)
    with torch.no_grad():
        seen = objective.encoder(x, mask, objective.mask_token)
        other = objective.encoder(x + 10 * pixels, mask, objective.mask_token)
    torch.testing.assert_close(seen, other)


# ------------------------------------------------------------------------------------------------
# MAE
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_pix", [False, True])
def test_masked_patch_loss_is_the_originals(oracle, norm_pix):
    torch.testing.assert_close(patchify(oracle["mae_image"], 8), oracle["mae_patches"], **TOLERANCE)
    arguments = (oracle["mae_image"], oracle["mae_prediction"], oracle["mae_mask"], 8)
    expected = oracle[f"mae_loss_norm_pix_{str(norm_pix).lower()}"]
    torch.testing.assert_close(masked_patch_loss(*arguments, norm_pix), expected, **TOLERANCE)


@pytest.mark.parametrize("norm_pix", [False, True])
@pytest.mark.parametrize(("batch", "grid", "patch"), [(1, 2, 4), (3, 5, 2), (2, 1, 3)])
def test_masked_patch_loss_by_hand(batch, grid, patch, norm_pix):
    rng = np.random.default_rng(grid)
    x = rng.normal(size=(batch, 3, grid * patch, grid * patch))
    prediction = rng.normal(size=(batch, grid**2, 3 * patch**2))
    mask = rng.integers(0, 2, size=(batch, grid**2))
    mask[0, 0] = 1
    errors = []
    for b, n in np.argwhere(mask):
        row, col = divmod(n, grid)
        target = x[b, :, row * patch : (row + 1) * patch, col * patch : (col + 1) * patch].transpose(1, 2, 0).ravel()
        if norm_pix:
            target = (target - target.mean()) / math.sqrt(target.var(ddof=1) + 1e-6)
        errors.append(((prediction[b, n] - target) ** 2).mean())
    tensors = (torch.from_numpy(x), torch.from_numpy(prediction), torch.from_numpy(mask))
    assert masked_patch_loss(*tensors, patch, norm_pix).item() == pytest.approx(np.mean(errors))


@pytest.mark.parametrize(("count", "ratio", "kept"), [(196, 0.75, 49), (36, 0.75, 9), (10, 0.35, 6), (4, 0.5, 2)])
def test_random_patches_hide_the_exact_share(count, ratio, kept):
    visible, mask = random_patches(50, count, ratio, torch.Generator().manual_seed(0))
    assert visible.shape == (50, kept) and mask.shape == (50, count)
    assert torch.equal(mask.sum(1), torch.full((50,), float(count - kept)))
    assert (mask.gather(1, visible) == 0).all() and all(len(set(row.tolist())) == kept for row in visible)
    assert torch.equal(visible, random_patches(50, count, ratio, torch.Generator().manual_seed(0))[0])


def test_random_patches_are_uniform_and_never_all_or_none():
    _, mask = random_patches(4000, 16, 0.75, torch.Generator().manual_seed(1))
    assert (mask.mean(0) - 0.75).abs().max() < 0.03  # sd of the mean 0.007
    for ratio in (0.99, 0.0):
        with pytest.raises(ValueError, match="of 16 patches visible"):
            random_patches(1, 16, ratio, None)


def test_mae_trains_encoder_and_decoder():
    objective, _ = mae()
    objective.train()
    output = objective([images(4, 1)], torch.Generator().manual_seed(0))
    output.loss.backward()
    assert output.features.shape == (4, 16) and not output.features.requires_grad
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is None) == name.endswith(("pos_embed", "positions")), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_mae_loss_is_that_of_the_visible_patches():
    objective, _ = mae(norm_pix=False)
    objective.eval()
    x = images(3, 2)
    visible, mask = random_patches(3, 16, 0.75, torch.Generator().manual_seed(5))
    with torch.no_grad():
        prediction = objective.decoder(encode_visible(objective.encoder, x, visible), visible)
        expected = masked_patch_loss(x, prediction, mask, 4, False)
        torch.testing.assert_close(objective([x], torch.Generator().manual_seed(5)).loss, expected)


# ------------------------------------------------------------------------------------------------
# All
# ------------------------------------------------------------------------------------------------


def test_weight_decay_groups():
    objective, _ = simmim()
    groups = {group["weight_decay"]: {id(p) for p in group["params"]} for group in objective.parameter_groups(0.05)}
    assert set(groups) == {0.0, 0.05}
    for name, parameter in objective.named_parameters():
        spared = parameter.ndim <= 1 or any(part in name for part in ("token", "relative_position", ".bias"))
        assert id(parameter) in groups[0.0 if spared else 0.05], name


@pytest.mark.parametrize("build", [moco, simmim, mae])
def test_objectives_start_from_the_untrained_control_and_from_the_seed(build):
    objective, architecture = build()
    again, _ = build()
    control = build_encoder(architecture.spec(), seed=3).state_dict()
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    for name, tensor in objective.encoder.state_dict().items():
        assert torch.equal(tensor, control[name]), name


def test_blocks_are_compiled_whatever_their_class(monkeypatch):
    """Those that the family and the decoder call their blocks, and nothing else."""
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda part, **_: compiled.append(part))
    objective, _ = mae()
    for layer in (*objective.encoder.blocks, *objective.decoder.blocks):
        layer.__class__ = type("Layer", (nn.Module,), {})  # of no class that timm has
    monkeypatch.setattr("cl_vs_mim.pretrain.trainer.find_spec", bool)  # as if Triton were there
    compile_blocks(objective, torch.device("cuda"))
    assert compiled == [*objective.encoder.blocks, *objective.decoder.blocks] != []
