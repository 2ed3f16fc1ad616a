"""DINO, the hybrid and supervised training: oracles, independent arithmetic, equality with what they are made of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cl_vs_mim.config import Architecture, Model, View
from cl_vs_mim.data.augment import augment
from cl_vs_mim.pretrain.dino import DINOHead, dino_loss, updated_center
from cl_vs_mim.pretrain.registry import build_objective

TOLERANCE = dict(rtol=1e-4, atol=1e-5)
TRAINING = dict(
    epochs=1, warmup_epochs=0, batch_size=4, base_lr=1e-3, lr_batch=4, weight_decay=0.1, checkpoint_steps=1, log_steps=1
)
CROP = dict(crop_scale=(0.5, 1))
SIMMIM = dict(method="simmim", mask_ratio=0.6, mask_unit=2, views=[CROP])
MOCO = dict(method="moco_v3", temperature=0.2, momentum=0.9, projector_hidden=24, output_dim=12, views=[CROP] * 2)


@pytest.fixture(scope="module")
def oracle() -> dict[str, torch.Tensor]:
    with np.load(Path(__file__).parent / "oracles" / "objectives.npz") as archive:
        return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}


def build(objective: dict, family: str = "vit", paradigm: str = "cl"):
    shape = dict(positions="sincos") if family == "vit" else dict(positions="relative", layer_scale=0.1)
    architecture = Architecture(
        label="t", family=family, image_size=16, patch_size=4, width=16, depth=2, heads=2, **shape
    )
    model = Model(label="m", paradigm=paradigm, architecture="a", seeds=[0], objective=objective, training=TRAINING)
    return build_objective(model, architecture, seed=3)


def images(count: int, seed: int, size: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------
# DINO
# ------------------------------------------------------------------------------------------------


def dino(**changes):
    objective = dict(method="dino", teacher_temperature=0.06, momentum=0.9, hidden=20, bottleneck=6, prototypes=10)
    views = [CROP, CROP, CROP | {"size": 8}, CROP | {"size": 8}]
    return build(objective | {"views": views} | changes)


def test_dino_loss_and_centre_are_the_originals(oracle):
    temperatures = (float(oracle["dino_student_temperature"]), float(oracle["dino_teacher_temperature"]))
    arguments = (oracle["dino_student"], oracle["dino_teacher"], oracle["dino_center_before"])
    torch.testing.assert_close(dino_loss(*arguments, *temperatures), oracle["dino_loss"], **TOLERANCE)
    center = updated_center(oracle["dino_center_before"], oracle["dino_teacher"], 0.9)
    torch.testing.assert_close(center, oracle["dino_center_after"], **TOLERANCE)


@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (1.0, 0.5)])
@pytest.mark.parametrize(("batch", "crops", "width"), [(1, 2, 3), (4, 2, 7), (3, 6, 5)])
def test_dino_loss_by_hand(batch, crops, width, temperatures):
    rng = np.random.default_rng(crops)
    student, teacher = rng.normal(size=(crops * batch, width)), rng.normal(size=(2 * batch, width))
    center = rng.normal(size=(1, width))

    def softmax(x):
        e = np.exp(x - x.max())
        return e / e.sum()

    terms = []
    for t in range(2):
        for s in range(crops):
            if s != t:
                for b in range(batch):
                    p = softmax((teacher[t * batch + b] - center[0]) / temperatures[1])
                    q = softmax(student[s * batch + b] / temperatures[0])
                    terms.append(-(p * np.log(q)).sum())
    tensors = (torch.from_numpy(each) for each in (student, teacher, center))
    assert dino_loss(*tensors, *temperatures).item() == pytest.approx(np.mean(terms), rel=1e-4)


def test_dino_loss_refuses_torn_crops():
    with pytest.raises(ValueError, match="whole crops"):
        dino_loss(torch.zeros(7, 3), torch.zeros(4, 3), torch.zeros(1, 3), 0.1, 0.04)


def test_dino_forward_is_one_pass_a_crop():
    objective = dino().eval()
    views = [images(3, 1), images(3, 2), images(3, 3, 8), images(3, 4, 8)]
    with torch.no_grad():
        for p in objective.teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        student = torch.cat([objective.head(objective.encoder.forward_any_size(view)[:, 0]) for view in views])
        teacher = torch.cat([objective.teacher_head(objective.teacher(view)[:, 0]) for view in views[:2]])
        expected = dino_loss(student, teacher, objective.center, 0.1, objective.teacher_temperature)
        torch.testing.assert_close(objective(views).loss, expected)


def test_dino_gradients_centre_and_teacher():
    objective = dino(freeze_prototypes=0.5, teacher_warmup=0.5)
    objective.train()
    views = [images(3, 1), images(3, 2), images(3, 3, 8), images(3, 4, 8)]
    objective.before_step(0.25)
    assert objective.teacher_temperature == pytest.approx(0.05)  # half way from 0.04 to 0.06
    objective(views).loss.backward()
    assert objective.center.abs().sum() > 0
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is None) == (name.startswith("teacher") or "pos_embed" in name), name
    objective.after_backward(0.25)
    assert objective.head.prototypes.grad is None, "they stand still at first"
    before = objective.teacher_head.mlp[0].weight.clone()
    with torch.no_grad():
        objective.head.mlp[0].weight.add_(1.0)
    objective.after_step(0.5)
    moved = before * 0.95 + objective.head.mlp[0].weight * 0.05
    torch.testing.assert_close(objective.teacher_head.mlp[0].weight, moved)


def test_prototypes_have_unit_length_and_logits_are_cosines():
    head = DINOHead(16, 20, 6, 10)
    logits = head(torch.randn(50, 16))
    assert logits.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes.mul_(7)
    torch.testing.assert_close(head(torch.ones(1, 16)), head(torch.ones(1, 16)))
    scaled = DINOHead(16, 20, 6, 10)
    scaled.load_state_dict(head.state_dict())
    with torch.no_grad():
        scaled.prototypes.div_(7)
    torch.testing.assert_close(scaled(torch.ones(1, 16)), head(torch.ones(1, 16)))


def test_any_size_is_the_encoder_at_its_own_and_resampled_elsewhere():
    encoder = dino().encoder.eval()
    x = images(2, 1)
    torch.testing.assert_close(encoder.forward_any_size(x), encoder(x))
    assert encoder.forward_any_size(images(2, 1, 8)).shape == (2, 5, 16)
    with pytest.raises(ValueError, match="not whole patches of 4 px"):
        encoder.forward_any_size(images(2, 1, 10))
    with pytest.raises(ValueError, match="its own size only"):
        build(SIMMIM, "beit", "mim").encoder.forward_any_size(images(2, 1, 8))


def test_the_teachers_crops_have_the_encoders_size():
    with pytest.raises(ValidationError, match="the first two are the teacher's"):
        dino(views=[CROP, CROP | {"size": 8}])


# ------------------------------------------------------------------------------------------------
# Hybrid
# ------------------------------------------------------------------------------------------------


def hybrid(weight: float):
    cl = MOCO | {"freeze_patch_projection": weight == 1}
    return build(dict(method="hybrid", weight=weight, mim=SIMMIM, cl=cl), "beit", "hybrid")


def step(objective, views: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder after one step of AdamW as the loop does it."""
    optimizer = torch.optim.AdamW(objective.parameter_groups(0.1), lr=1e-2)
    objective.train()
    objective.before_step(0.3)
    loss = objective(views, torch.Generator().manual_seed(5)).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in objective.parameters() if p.grad is not None], 1.0)
    optimizer.step()
    return {"loss": loss.detach()} | objective.encoder.state_dict()


@pytest.mark.parametrize("weight", [0, 1])
def test_the_ends_of_the_hybrid_are_its_parts_bit_for_bit(weight):
    views = [images(6, 1), images(6, 2), images(6, 3)]
    part = build(MOCO | {"freeze_patch_projection": True}, "beit") if weight else build(SIMMIM, "beit", "mim")
    wanted = step(part, views[1:] if weight else views[:1])
    found = step(hybrid(weight), views)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_the_hybrid_is_the_weighted_sum_of_both_losses_and_gradients(weight):
    views = [images(6, 1), images(6, 2), images(6, 3)]
    objective = hybrid(weight)
    objective.train()
    output = objective(views, torch.Generator().manual_seed(5))
    output.loss.backward()
    found = {name: p.grad.clone() for name, p in objective.encoder.named_parameters() if p.grad is not None}
    other = hybrid(weight)
    other.train()
    mim = other.mim(views[:1], torch.Generator().manual_seed(5)).loss
    cl = other.cl(views[1:]).loss
    ((1 - weight) * mim + weight * cl).backward()
    assert output.loss.item() == pytest.approx(((1 - weight) * mim + weight * cl).item())
    assert output.metrics["loss_mim"] == pytest.approx(mim.item())
    assert output.metrics["loss_cl"] == pytest.approx(cl.item())
    for name, p in other.encoder.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad)
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)


def test_one_encoder_is_shared_and_saved_state_restores_all_of_it():
    objective = hybrid(0.5)
    assert objective.mim.encoder is objective.cl.encoder is objective.encoder
    again = hybrid(0.5)
    step(objective, [images(4, 1), images(4, 2), images(4, 3)])
    again.load_state_dict(objective.state_dict())
    for name, tensor in objective.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert again.mim.encoder is again.encoder


def test_a_frozen_patch_projection_is_refused():
    with pytest.raises(ValidationError, match="SimMIM trains the patch projection"):
        build(dict(method="hybrid", weight=0.5, mim=SIMMIM, cl=MOCO | {"freeze_patch_projection": True}), "beit")


# ------------------------------------------------------------------------------------------------
# Supervised
# ------------------------------------------------------------------------------------------------


def supervised(**changes):
    return build(dict(method="supervised", classes=5, views=[CROP]) | changes, paradigm="supervised")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_supervised_loss_by_hand(pooling):
    objective = supervised(mixup=0, cutmix=0, label_smoothing=0.1, pooling=pooling).train()
    x, labels = images(4, 1), torch.tensor([0, 4, 2, 2])
    output = objective([x], None, labels)
    tokens = objective.encoder(x)
    features = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(1)
    logits = (features @ objective.head.weight.T + objective.head.bias).detach().double().numpy()
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        logs = row - math.log(np.exp(row).sum())
        total -= 0.9 * logs[label] + 0.1 * logs.mean()
    assert output.loss.item() == pytest.approx(total / 4, rel=1e-5)
    assert output.metrics["train_top1"] == pytest.approx((logits.argmax(1) == labels.numpy()).mean())


def test_mixing_draws_from_the_seeded_global_generator():
    objective = supervised().train()
    x, labels = images(4, 1), torch.tensor([0, 1, 2, 3])

    def loss(seed: int) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return objective([x.clone()], None, labels).loss.item()

    assert loss(1) == loss(1) and len({loss(seed) for seed in range(5)}) > 3
    objective.eval()
    assert loss(1) == loss(2), "nothing is mixed in evaluation"


def test_rand_augment_is_a_function_of_the_generator():
    pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain, strong = View(**CROP), View(**CROP, rand_augment={"operations": 2, "magnitude": 9})

    def drawn(view: View, seed: int) -> torch.Tensor:
        return augment(pixels, view, 16, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(strong, 1), drawn(strong, 1))
    assert not torch.equal(drawn(strong, 1), drawn(plain, 1))
    before = torch.random.get_rng_state()
    drawn(strong, 1)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
