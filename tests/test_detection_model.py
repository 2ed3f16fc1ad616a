"""The detector's backbone is the encoder, its parameters get ViTDet's rates, and its images large-scale jitter."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detection_scenes import SIDE, tiny, write_scenes

pytest.importorskip("detectron2")

from detectron2.config import instantiate

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.coco import read_coco
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import Encoder, EncoderSpec, build_encoder
from cl_vs_mim.transfer.detection.backbone import (
    FEATURE,
    EncoderBackbone,
    check_encoder,
    level_names,
    pyramid_strides,
)
from cl_vs_mim.transfer.detection.data import (
    TrainingSamples,
    evaluation_mapper,
    map_record,
    records_of,
    training_batches,
    training_mapper,
)
from cl_vs_mim.transfer.detection.recipe import build_detector, build_optimizer, detector_config, layer_rate

COMMON = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}
SPECS = {
    "vit": EncoderSpec(family="vit", positions="sincos", **COMMON),
    "learned": EncoderSpec(family="vit", positions="learned", **COMMON),
    "beit": EncoderSpec(family="beit", positions="relative", layer_scale=0.1, **COMMON),
}
CPU = torch.device("cpu")


def perturbed(name: str) -> Encoder:
    encoder = build_encoder(SPECS[name], seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # nothing that could be dropped may be at its neutral value
        for key, parameter in encoder.named_parameters():
            if not key.endswith("pos_embed"):
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return encoder


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "coco")


# ------------------------------------------------------------------------------------------------
# Backbone
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("window", [None, 4])
def test_the_backbones_tokens_are_the_encoders(name: str, window: int | None) -> None:
    """Window = grid of pre-training: both see all patches of an image of the encoder's own size."""
    encoder = perturbed(name)
    backbone = EncoderBackbone(SPECS[name].to_dict(), window, [])
    backbone.dense.encoder.load_state_dict(encoder.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    feature = backbone.eval()(images)[FEATURE]
    assert backbone.output_shape()[FEATURE].stride == 8
    torch.testing.assert_close(
        feature.flatten(2).transpose(1, 2), encoder.states(images)[-1][:, 1:], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", SPECS)
def test_inside_the_detector_the_encoder_sees_what_it_was_trained_on(name: str) -> None:
    """From uint8 RGB pixels through detectron2's preprocessing: our mean and deviation, RGB, the encoder's weights."""
    encoder, settings = perturbed(name), tiny(image_size=32, window=4, global_blocks=[])
    model = build_detector(detector_config(SPECS[name], settings, 3, CPU), encoder, 0, CPU).eval()
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    images = model.preprocess_image([{"image": pixels}]).tensor
    torch.testing.assert_close(images, normalise(pixels[None]), rtol=1e-5, atol=1e-5)
    feature = model.backbone.net(images)[FEATURE]
    states = encoder.states(normalise(pixels[None]))
    torch.testing.assert_close(feature.flatten(2).transpose(1, 2), states[-1][:, 1:], rtol=1e-4, atol=1e-4)
    levels = model.backbone(images)
    assert {key: level.shape[-1] for key, level in levels.items()} == {"p1": 16, "p2": 8, "p3": 4, "p4": 2, "p5": 1}


def test_the_encoder_may_run_in_bf16_and_its_features_are_float32() -> None:
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    exact, rough = (EncoderBackbone(SPECS["beit"].to_dict(), 4, [], bf16)(images)[FEATURE] for bf16 in (False, True))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, rtol=0.05, atol=0.05)


def test_levels_of_the_pyramid_follow_the_patch_size() -> None:
    assert pyramid_strides(16) == [4, 8, 16, 32, 64]
    assert level_names(16) == ["p2", "p3", "p4", "p5", "p6"]
    assert level_names(4) == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize(
    ("patch", "changes", "message"),
    [
        (14, {}, r"mine has patches of 14 px; .* choose another encoder"),
        (2, {}, "mine has patches of 2 px"),
        (32, {}, r"64 px does not fit the patches of mine \(32 px in windows of 4\); make it a multiple of 128 px"),
        (16, {"window": 1, "image_size": 48}, "48 px is not whole cells of the pyramid's 32 px on mine"),
        (8, {"global_blocks": [1, 2]}, r"global_blocks: \[2\] are not blocks of mine \(0 … 1\)"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(patch: int, changes: dict, message: str) -> None:
    spec = EncoderSpec(family="vit", image_size=4 * patch, patch_size=patch, width=16, depth=2, heads=2)
    with pytest.raises(UserError, match=message):
        check_encoder(spec, tiny(**changes), "mine")


# ------------------------------------------------------------------------------------------------
# Optimiser
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_rates_fall_and_decay_is_spared_where_it_should_be(name: str) -> None:
    settings = tiny(layer_decay=0.5, weight_decay=0.1)
    config = detector_config(SPECS[name], settings, 3, CPU)
    model = build_detector(config, perturbed(name), 0, CPU)
    groups = {id(p): group for group in build_optimizer(config, model).param_groups for p in group["params"]}
    found = {key: groups[id(p)] for key, p in model.named_parameters() if p.requires_grad}
    inside = "backbone.net.dense.encoder.backbone."
    expected = {"patch_embed.proj.weight": 0.125, "cls_token": 0.125, "pos_embed": 0.125}
    expected |= {"blocks.0.mlp.fc1.weight": 0.25, "blocks.1.mlp.fc1.weight": 0.5}
    expected |= {"rel_pos_bias.relative_position_bias_table": 0.5}
    for key, factor in expected.items():
        if inside + key in found:
            assert found[inside + key]["initial_lr"] == pytest.approx(1e-3 * factor), key
    assert found["roi_heads.box_predictor.cls_score.weight"]["initial_lr"] == 1e-3
    spared = ("norm", "pos_embed", "cls_token", "relative_position_bias_table", "gamma_1", "gamma_2")
    for key, group in found.items():
        if key.startswith(inside):
            bare = any(part in key for part in spared)
            assert group["weight_decay"] == (0.0 if bare else 0.1), key


def test_layer_rate_counts_blocks_from_the_top() -> None:
    assert layer_rate("backbone.net.dense.encoder.backbone.blocks.11.mlp.fc1.weight", 0.7, 12) == pytest.approx(0.7)
    assert layer_rate("backbone.simfp_4.0.weight", 0.7, 12) == 1


def test_the_rate_warms_up_and_falls_twice() -> None:
    config = detector_config(SPECS["vit"], tiny(iterations=1000, warmup_iterations=100), 3, CPU)
    factor = instantiate(config.multiplier)
    values = [factor(step / 1000) for step in (0, 50, 100, 888, 890, 962, 964)]
    assert values == pytest.approx([0.001, 0.5005, 1, 1, 0.1, 0.1, 0.01])


# ------------------------------------------------------------------------------------------------
# Images
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_large_scale_jitter_gives_crops_of_the_square_or_smaller(scenes: Path, scale: float) -> None:
    train, _ = read_coco(scenes)
    record = records_of(train, objects_only=True)[0]
    mapper = training_mapper(tiny(scale_range=[scale, scale]))
    side = int(min(scale, 1) * SIDE)
    for _ in range(3):
        sample = map_record(mapper, record)
        assert tuple(sample["image"].shape) == (3, side, side)
        instances = sample["instances"]
        if len(instances):
            assert instances.gt_masks.tensor.shape[1:] == (side, side)
            boxes = instances.gt_masks.get_bounding_boxes().tensor  # recomputed after the crop
            torch.testing.assert_close(boxes, instances.gt_boxes.tensor)


def test_jittered_images_reach_the_encoder_as_whole_squares(scenes: Path) -> None:
    settings = tiny(scale_range=[0.3, 0.3])
    record = records_of(read_coco(scenes)[0], objects_only=True)[0]
    model = build_detector(detector_config(SPECS["vit"], settings, 3, CPU), perturbed("vit"), 0, CPU)
    images = model.preprocess_image([map_record(training_mapper(settings), record)])
    assert tuple(images.tensor.shape) == (1, 3, SIDE, SIDE)
    assert images.tensor[0, :, -1, -1].tolist() == [0, 0, 0]  # padded after normalisation


def test_pixels_are_red_green_blue(scenes: Path) -> None:
    _, val = read_coco(scenes)
    record = records_of(val)[0]
    sample = map_record(evaluation_mapper(tiny()), record)
    pixels = np.asarray(Image.open(record["file_name"]))
    assert np.array_equal(sample["image"].numpy(), pixels.transpose(2, 0, 1))


def test_a_sample_depends_on_seed_and_position_alone(scenes: Path) -> None:
    records = records_of(read_coco(scenes)[0], objects_only=True)
    settings = tiny(iterations=6)
    samples = TrainingSamples(records, settings, seed=0)
    forward = [samples[place] for place in range(12)]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    fresh = TrainingSamples(records, settings, seed=0)
    for place in (11, 3, 7):
        assert fresh[place]["file_name"] == forward[place]["file_name"]
        assert torch.equal(fresh[place]["image"], forward[place]["image"])
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    others = TrainingSamples(records, settings, seed=1)
    assert any(not torch.equal(others[place]["image"], forward[place]["image"]) for place in range(4))
    for epoch in range(3):
        names = [sample["file_name"] for sample in forward[4 * epoch : 4 * epoch + 4]]
        assert len(set(names)) == 4


def test_batches_go_on_where_they_were(scenes: Path) -> None:
    records = records_of(read_coco(scenes)[0], objects_only=True)
    samples = TrainingSamples(records, tiny(), seed=0)
    everything = list(training_batches(samples, 2, 0, 0))
    rest = list(training_batches(samples, 2, 3, 0))
    assert len(everything) == 4
    assert len(rest) == 1
    (ahead,) = training_batches(samples, 2, 3, workers=1)
    for batch in (rest[0], ahead):
        for sample, expected in zip(batch, everything[3], strict=True):
            assert torch.equal(sample["image"], expected["image"])


def test_an_image_that_is_not_as_its_row_says_is_named(scenes: Path) -> None:
    record = records_of(read_coco(scenes)[1])[0]
    path = Path(record["file_name"])
    Image.new("RGB", (SIDE, SIDE - 8)).save(path)
    with pytest.raises(UserError, match=rf"{path.name} is not of 64x64 px, as its row \(id 1\)"):
        map_record(evaluation_mapper(tiny()), record)
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"{path.name} cannot be read"):
        map_record(evaluation_mapper(tiny()), record)
