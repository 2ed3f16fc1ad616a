"""Batches from memory and from files: the same crops, whatever the workers, the step asked for, and the parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_vs_mim.config.views import Blur, RandAugment, View
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.augment import Draws, draw
from cl_vs_mim.data.images import index_image_folder
from cl_vs_mim.pretrain import sources
from cl_vs_mim.pretrain.sources import BatchPlan, MemorySource, StreamSource, load_into_memory, make_source

CPU = torch.device("cpu")
WHOLE = slice(0, 6)
VIEWS = (
    View(crop_scale=(0.3, 1.0), jitter_probability=0.8, brightness=0.4, hue=0.1, blur=Blur(probability=0.5)),
    View(crop_scale=(0.2, 0.6), interpolation="bicubic", size=8, solarize=0.3),
)


def write(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        path = folder / f"class{number % 2}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(scope="module")
def square(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("square"), [(24, 24)] * 13)


@pytest.fixture(scope="module")
def oblong(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("oblong"), [(20 + 3 * n, 44 - 2 * n) for n in range(13)])


def plan(views=VIEWS, seed: int = 3) -> BatchPlan:
    return BatchPlan(views, 24, 6, seed)


def test_files_give_the_views_of_memory_up_to_rounding(square: Path) -> None:
    index = index_image_folder(square)
    memory = make_source(index, index.labels, "memory", plan(), CPU, 1)
    stream = make_source(index, index.labels, "stream", plan(), CPU, 1)
    for step in (0, 1, 2):
        (kept, labels), (read, others) = memory.batch(step, WHOLE), stream.batch(step, WHOLE)
        assert [tuple(view.shape) for view in read] == [(6, 3, 24, 24), (6, 3, 8, 8)]
        assert torch.equal(labels, others)
        for one, other in zip(kept, read, strict=True):
            assert (one - other).abs().mean() < 0.02  # a grey level is 0.017; solarize may turn a few pixels
    assert torch.equal(memory.first(4), stream.first(4))


def test_workers_start_without_the_libraries_of_a_training() -> None:
    """Each one imports this module by itself, before every training from files and after every jump."""
    code = (
        "import sys, cl_vs_mim.pretrain.sources\n"
        "print([name for name in ('torchvision', 'timm', 'lightning_fabric', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_workers_steps_and_parts_change_nothing(oblong: Path) -> None:
    index = index_image_folder(oblong)
    views = (*VIEWS, View(crop_scale=(0.5, 1.0), rand_augment=RandAugment()))
    one, two = (StreamSource(index, index.labels, plan(views), CPU, workers) for workers in (1, 2))
    whole = {step: one.batch(step, WHOLE) for step in (0, 1, 2, 3)}
    for step in (2, 3, 1):  # a start in the middle, a next one, a jump back
        read, labels = two.batch(step, WHOLE)
        assert torch.equal(labels, whole[step][1])
        assert len(read) == len(views)
        assert all(torch.equal(mine, full) for mine, full in zip(read, whole[step][0], strict=True))
    part = StreamSource(index, index.labels, plan(views), CPU, 1).batch(2, slice(3, 6))
    assert torch.equal(part[1], whole[2][1][3:])
    assert all(torch.equal(mine, full[3:]) for mine, full in zip(part[0], whole[2][0], strict=True))


def test_crops_are_cut_from_the_whole_picture(tmp_path: Path) -> None:
    picture = np.zeros((24, 96, 3), dtype=np.uint8)
    picture[:, 72:] = 255  # the last quarter, which a centre square does not see
    (tmp_path / "class0").mkdir()
    for number in range(6):
        Image.fromarray(picture).save(tmp_path / "class0" / f"{number}.png")
    index = index_image_folder(tmp_path)
    view = (View(crop_scale=(0.05, 0.2), flip=0.0),)
    stream, memory = (make_source(index, index.labels, images, plan(view), CPU, 1) for images in ("stream", "memory"))
    brightest = [max(float(source.batch(step, WHOLE)[0][0].max()) for step in range(4)) for source in (stream, memory)]
    assert brightest[0] > 2 > 0 > brightest[1]


def test_boxes_stay_inside_pictures_of_any_shape() -> None:
    shapes = torch.tensor([[10.0, 200.0], [200.0, 10.0], [37.0, 64.0], [1.0, 1.0]]).repeat(500, 1)
    draws = draw(View(crop_scale=(0.08, 1.0)), len(shapes), shapes, 24, torch.Generator().manual_seed(0))
    top, left, height, width = draws.box.unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (height >= 1).all() and (width >= 1).all()
    assert (top + height <= shapes[:, 0]).all() and (left + width <= shapes[:, 1]).all()
    ratio = (width / height)[2::4]
    assert ((ratio > 0.7) & (ratio < 1.43)).all()


def test_draws_do_not_depend_on_the_pictures() -> None:
    small, large = (
        draw(VIEWS[0], 8, side, 24, torch.Generator().manual_seed(0)) for side in (24, torch.tensor([[48.0, 48.0]] * 8))
    )
    for name in vars(Draws(**vars(small))):
        if name not in ("box", "jitter_order"):
            assert torch.equal(getattr(small, name), getattr(large, name)), name
    assert small.jitter_order == large.jitter_order
    assert (2 * small.box - large.box).abs().max() <= 3  # rounded to whole pixels of either


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "images", [(24, 24)] * 6)
    (folder / "class1" / "003.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"003\.png cannot be read") as caught:
        index = index_image_folder(folder)
        StreamSource(index, index.labels, plan(), CPU, 1).batch(0, WHOLE)
    assert "\n" not in str(caught.value)  # and not the traceback of the process that read it


def test_too_much_for_the_memory_is_refused_before_it_is_read(square: Path, monkeypatch) -> None:
    monkeypatch.setattr(sources.os, "sysconf", lambda name: 20)
    with pytest.raises(UserError, match=r"set training\.images to stream"):
        load_into_memory(index_image_folder(square), 24, CPU)


def test_memory_follows_the_order_of_the_epoch(square: Path) -> None:
    index = index_image_folder(square)
    images = torch.arange(13, dtype=torch.uint8).view(-1, 1, 1, 1).expand(13, 3, 24, 24).contiguous()
    source = MemorySource(images, torch.arange(13), plan())
    seen = torch.cat([source.batch(step, WHOLE)[1] for step in (0, 1)])
    assert len(set(seen.tolist())) == 12 and len(index) == 13
