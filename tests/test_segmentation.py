"""Segmentation: faulty folders named, crops that keep labels on their pixels, the encoder whole, kills survived."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.ade20k import IGNORED, TRAINING, VALIDATION, open_pair, read_split
from cl_vs_mim.encoder.model import Encoder, EncoderSpec, build_encoder
from cl_vs_mim.pretrain import loop
from cl_vs_mim.pretrain.interrupt import PAUSED
from cl_vs_mim.transfer import commands
from cl_vs_mim.transfer.segmentation.settings import Segmentation
from cl_vs_mim.transfer.segmentation.source import SceneSource, random_crop

mmseg = pytest.importorskip("mmseg")

from cl_vs_mim.transfer.segmentation.network import Segmenter  # noqa: E402
from cl_vs_mim.transfer.segmentation.overlap import overlap  # noqa: E402
from workplace import Workplace  # noqa: E402

CPU = torch.device("cpu")
SIZE, CLASSES = 32, ("sky", "red", "green")
SHAPE = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 3, "heads": 2}
TRAINING_KEYS = {
    **{"epochs": 3, "warmup_epochs": 0, "schedule": "linear", "batch_size": 4, "base_lr": 5e-3, "lr_batch": 4},
    **{"weight_decay": 0.0, "checkpoint_steps": 2, "log_steps": 1},
}


def settings(**options) -> Segmentation:
    given = {"image_size": SIZE, "out_blocks": [1, 2, 3, -1], "channels": 8, "auxiliary_channels": 8}
    return Segmentation.model_validate(given | {"layer_decay": 0.8, "training": TRAINING_KEYS} | options)


def write_scenes(root: Path, counts: dict[str, int] | None = None) -> Path:
    """A red and a green square on grey; a frame of pixels without label."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    (root / "objectInfo.txt").write_text("Idx\tName\n" + "".join(f"{n}\t{c}\n" for n, c in enumerate(CLASSES, 1)))
    for split, count in (counts or {TRAINING: 8, VALIDATION: 3}).items():
        for number in range(count):
            pixels = rng.normal(128, 8, (SIZE, SIZE, 3))
            labels = np.ones((SIZE, SIZE), dtype=np.uint8)
            for label, channel in ((2, 0), (3, 1)):
                top, left = rng.integers(2, 20, 2)
                pixels[top : top + 10, left : left + 10] = 20
                pixels[top : top + 10, left : left + 10, channel] = 230
                labels[top : top + 10, left : left + 10] = label
            labels[0] = 0
            for kind, content, suffix in (
                ("images", np.clip(pixels, 0, 255).astype(np.uint8), "png"),
                ("annotations", labels, "png"),
            ):
                path = root / kind / split / f"{number:03}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(path)
    (root.parent / "manifest.json").write_text(json.dumps({"data_hash": "f00d"}))
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "ade20k")


def encoder(family: str = "vit") -> Encoder:
    more = {"vit": {"positions": "sincos"}, "beit": {"positions": "relative", "layer_scale": 0.1}}[family]
    return build_encoder(EncoderSpec(family=family, **SHAPE, **more), 0).eval()


# ------------------------------------------------------------------------------------------------
# Folders
# ------------------------------------------------------------------------------------------------


def test_labels_count_from_zero_and_none_is_255(scenes: Path) -> None:
    split = read_split(scenes, TRAINING)
    assert len(split) == 8 and split.classes == CLASSES
    _, labels = open_pair(split, 0)
    assert set(np.unique(labels)) == {0, 1, 2, IGNORED} and (labels[0] == IGNORED).all()


def unknown_label(root: Path) -> None:
    Image.fromarray(np.full((SIZE, SIZE), 4, np.uint8)).save(root / "annotations" / TRAINING / "001.png")


def other_size(root: Path) -> None:
    Image.fromarray(np.ones((SIZE, SIZE - 1), np.uint8)).save(root / "annotations" / TRAINING / "002.png")


def colour(root: Path) -> None:
    Image.fromarray(np.ones((SIZE, SIZE, 3), np.uint8)).save(root / "annotations" / TRAINING / "002.png")


def all_empty(root: Path) -> None:
    for path in (root / "annotations" / TRAINING).iterdir():
        Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(path)


FAULTS = {
    "unknown label": (unknown_label, r"001\.png has label 4, but .* names 3 classes"),
    "other size": (other_size, r"002\.png is 31x32 px, but its image 002\.png 32x32"),
    "colour": (colour, r"002\.png has mode RGB; one byte a pixel"),
    "all empty": (all_empty, "no pixel of any annotation has a label"),
    "no annotation": (
        lambda root: (root / "annotations" / TRAINING / "003.png").unlink(),
        r"1 of 8 .* missing.*003\.png",
    ),
    "no image": (lambda root: (root / "images" / TRAINING / "003.png").unlink(), r"003\.png has no image"),
    "no images": (lambda root: [p.unlink() for p in (root / "images" / TRAINING).iterdir()], "holds no images"),
    "no classes": (lambda root: (root / "objectInfo.txt").unlink(), r"has no objectInfo….txt"),
    "classes": (lambda root: (root / "objectInfo.txt").write_text("Idx\tName\n1\ta\n3\tb\n"), "row 2 does not"),
    "columns": (lambda root: (root / "objectInfo.txt").write_text("Idx,Name\n1,a\n"), "columns Idx and Name"),
    "damaged": (
        lambda root: (root / "annotations" / TRAINING / "003.png").write_bytes(b"x"),
        r"003\.png cannot be read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_named(tmp_path: Path, fault: str) -> None:
    root = write_scenes(tmp_path / "ade20k", {TRAINING: 8})
    change, message = FAULTS[fault]
    change(root)
    with pytest.raises(UserError, match=message):
        read_split(root, TRAINING)


# ------------------------------------------------------------------------------------------------
# Crops
# ------------------------------------------------------------------------------------------------


def test_labels_stay_on_their_pixels(scenes: Path) -> None:
    picture, labels = open_pair(read_split(scenes, TRAINING), 0)
    mirrored = 0
    for seed in range(30):
        crop, label = random_crop(picture, labels, settings(), torch.Generator().manual_seed(seed))
        assert crop.shape == (SIZE, SIZE, 3) and label.shape == (SIZE, SIZE)
        red = (crop[..., 0] > 200) & (crop[..., 1] < 60)
        green = (crop[..., 1] > 200) & (crop[..., 0] < 60)
        assert (label[red] == 1).mean() > 0.9 if red.any() else True
        assert (label[green] == 2).mean() > 0.9 if green.any() else True
        assert (crop[label == IGNORED].mean() < 140) if (label == IGNORED).any() else True
        mirrored += int(red.any())
    assert mirrored > 10


def test_batches_depend_on_nothing_but_step_and_seed(scenes: Path) -> None:
    split = read_split(scenes, TRAINING)
    stream = settings(training=TRAINING_KEYS | {"images": "stream"})
    kept = SceneSource(split, settings(), 3, 16, CPU, 1)
    read = SceneSource(split, stream, 3, 16, CPU, 2)
    for step in (4, 5, 1):
        (one, labels), (other, same) = kept.batch(step, slice(0, 4)), read.batch(step, slice(0, 4))
        assert torch.equal(one[0], other[0]) and torch.equal(labels, same)
    part, labels_of_part = SceneSource(split, settings(), 3, 16, CPU, 1).batch(1, slice(2, 4))
    assert torch.equal(part[0], one[0][2:]) and torch.equal(labels_of_part, labels[2:])
    assert kept.first(5).shape == (5, 3, 16, 16)


# ------------------------------------------------------------------------------------------------
# Network and measure
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["vit", "beit"])
def test_the_backbone_is_the_encoder(family: str) -> None:
    whole = encoder(family)
    network = Segmenter(whole, settings(), len(CLASSES)).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    states = whole.states(images)
    for block, feature in zip((1, 2, 3, 3), network.pyramid.backbone(images), strict=True):
        torch.testing.assert_close(feature.flatten(2).transpose(1, 2), states[2 * block][:, 1:], rtol=1e-4, atol=1e-5)
    assert [tuple(level.shape[2:]) for level in network.pyramid(images)] == [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("shape", [(32, 32), (30, 41), (64, 40)])
def test_pictures_of_any_size_are_classified_pixel_by_pixel(shape: tuple[int, int]) -> None:
    network = Segmenter(encoder(), settings(), len(CLASSES)).eval()
    found = network.classify(torch.randint(0, 256, (3, *shape), dtype=torch.uint8))
    assert found.shape == shape and found.max() < len(CLASSES)


def test_windows_are_averaged_and_one_window_is_the_whole(scenes: Path) -> None:
    torch.manual_seed(0)
    whole = Segmenter(encoder(), settings(), len(CLASSES)).eval()
    slide = Segmenter(encoder(), settings(slide_stride=20), len(CLASSES)).eval()
    slide.load_state_dict(whole.state_dict())
    square = torch.randn(1, 3, SIZE, SIZE)
    torch.testing.assert_close(slide._slide(square), whole._logits(square))
    oblong = torch.randn(1, 3, SIZE, 70)  # windows at 0, 20 and 38
    found = slide._slide(oblong)
    parts = {left: whole._logits(oblong[..., left : left + SIZE]) for left in (0, 20, 38)}
    torch.testing.assert_close(found[..., :20], parts[0][..., :20])
    torch.testing.assert_close(found[..., 25], (parts[0][..., 25] + parts[20][..., 5]) / 2)
    torch.testing.assert_close(found[..., 52:], parts[38][..., 14:])
    assert slide.classify(torch.randint(0, 256, (3, 40, 90), dtype=torch.uint8)).shape == (40, 90)


def test_one_image_at_a_time_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="BatchNorm needs two images"):
        settings(training=TRAINING_KEYS | {"batch_size": 1})


def test_truth_fed_back_scores_100(scenes: Path) -> None:
    split = read_split(scenes, VALIDATION)
    truths = iter([open_pair(split, position)[1] for position in range(len(split))])
    rows = overlap(lambda _: torch.from_numpy(np.where((t := next(truths)) == IGNORED, 0, t)).long(), split, CPU)
    assert rows["value"].eq(100).all()
    assert set(rows["metric"]) == {"mIoU", "mAcc", "aAcc", "IoU", "Acc"}


def test_a_known_mistake_has_the_known_score(scenes: Path) -> None:
    split = read_split(scenes, VALIDATION)
    rows = overlap(lambda image: torch.zeros(image.shape[1:], dtype=torch.long), split, CPU)
    truth = np.concatenate([open_pair(split, n)[1].ravel() for n in range(len(split))])
    sky = (truth[truth != IGNORED] == 0).mean()
    by = rows.set_index(["metric", "category"])["value"]
    assert by["IoU", "sky"] == pytest.approx(100 * sky) and by["IoU", "red"] == 0
    assert by["mIoU", "all"] == pytest.approx(100 * sky / 3) and by["aAcc", "all"] == pytest.approx(100 * sky)


# ------------------------------------------------------------------------------------------------
# The command
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def workplace(workplace: Workplace, scenes: Path) -> Workplace:
    workplace.shape(**SHAPE)
    workplace.study["transfer"] = {"segmentation": settings().model_dump(mode="json")}
    workplace.options["data"] = scenes
    return workplace


def run(workplace: Workplace, name: str) -> pd.DataFrame:
    folder = workplace.folder
    files = {"runs": folder / f"runs_{name}", "tables": folder / name, "picture": folder / f"{name}.png"}
    workplace.call(commands.segmentation, "untrained_beit_seed0", **files)
    return pd.read_parquet(folder / name / "segmentation" / "untrained_beit_seed0.parquet")


def weights(workplace: Workplace, name: str) -> dict:
    newest = max(workplace.run_folder(f"runs_{name}").glob("checkpoint_*.pt"))
    return torch.load(newest, weights_only=True)["objective"]


@pytest.mark.slow
def test_it_learns_the_squares_and_a_pause_changes_nothing(workplace: Workplace, monkeypatch) -> None:
    workplace.study["transfer"]["segmentation"]["training"] |= {"epochs": 40}
    table = run(workplace, "whole")
    score = table[table["metric"] == "mIoU"]["value"].item()
    assert score > 60, "grey, red and green"
    assert set(table["task"]) == {"segmentation"} and set(table["model"]) == {"untrained_beit"}
    with Image.open(workplace.folder / "whole.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.ptp(drawn, axis=1) > 60).mean() > 0.01, "classes are coloured"
    ticks = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_agreed", lambda *_: next(ticks) == 7)
        with pytest.raises(SystemExit) as stopped:
            run(workplace, "paused")
    assert stopped.value.code == PAUSED and not (workplace.folder / "paused").exists()
    run(workplace, "paused")
    whole, paused = weights(workplace, "whole"), weights(workplace, "paused")
    assert all(torch.equal(whole[name], paused[name]) for name in whole)


def test_what_does_not_fit_is_named(workplace: Workplace) -> None:
    workplace.study["transfer"]["segmentation"]["image_size"] = 30
    with pytest.raises(UserError, match=r"image_size 30 is not a multiple of the 4 px patches of 'beit'"):
        run(workplace, "x")
    del workplace.study["transfer"]["segmentation"]
    with pytest.raises(UserError, match=r"has no transfer\.segmentation"):
        run(workplace, "x")
