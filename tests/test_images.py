"""Reading ImageFolders: order, even selection, resizing, damaged files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    decode,
    decode_many,
    index_image_folder,
    normalise,
    select_evenly,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(["cat", "dog", "eel"]):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (20, 16), (50 * label, 10 * number, 0)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_index_is_ordered_by_class_and_file(folder: Path) -> None:
    index = index_image_folder(folder)
    assert index.classes == ("cat", "dog", "eel")
    assert index.paths[:2] == ("cat/0.png", "cat/1.png")
    assert index.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_empty_class_and_missing_folder_are_named(folder: Path) -> None:
    (folder / "yak").mkdir()
    with pytest.raises(UserError, match="yak"):
        index_image_folder(folder)
    with pytest.raises(UserError, match="is not an ImageFolder"):
        index_image_folder(folder / "nosuch")


def test_selection_is_even_random_and_repeatable() -> None:
    labels = np.repeat(np.arange(5), [9, 3, 7, 4, 8])
    chosen = select_evenly(labels, 12, seed=1)
    counts = np.bincount(labels[chosen], minlength=5)
    assert counts.max() - counts.min() <= 1
    assert len(set(chosen.tolist())) == 12
    assert chosen.tolist() == select_evenly(labels, 12, seed=1).tolist()
    assert chosen.tolist() != select_evenly(labels, 12, seed=2).tolist()


def test_a_smaller_selection_is_the_start_of_a_larger_one() -> None:
    labels = np.repeat(np.arange(4), 6)
    assert select_evenly(labels, 16, seed=0)[:7].tolist() == select_evenly(labels, 7, seed=0).tolist()


def test_selecting_too_many_is_refused() -> None:
    with pytest.raises(UserError, match="7 images asked for, but the data set has 6"):
        select_evenly(np.zeros(6, dtype=np.int64), 7, seed=0)


def test_decoding_does_not_depend_on_workers_and_keeps_order(folder: Path) -> None:
    index = index_image_folder(folder)
    positions = [11, 0, 5]
    one = decode_many(index, positions, 16, workers=1)
    three = decode_many(index, positions, 16, workers=3)
    assert one.shape == (3, 3, 16, 16)
    assert one.dtype == torch.uint8
    assert torch.equal(one, three)
    assert one[0, :2, 8, 8].tolist() == [100, 30]


def test_square_images_of_the_right_size_are_left_alone(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", 24), pixels)


def test_centre_crop_takes_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, 16:48] = 200  # the middle square
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (decode(tmp_path / "wide.png", 32) == 200).all()
    assert decode(tmp_path / "wide.png", 28, crop_fraction=0.875).shape == (28, 28, 3)


def test_damaged_image_is_named(folder: Path) -> None:
    whole = (folder / "dog" / "2.png").read_bytes()
    (folder / "dog" / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"dog/2\.png cannot be read"):
        decode_many(index_image_folder(folder), range(12), 16)


def test_missing_image_is_named(folder: Path) -> None:
    index = index_image_folder(folder)
    (folder / "eel" / "1.png").unlink()
    with pytest.raises(UserError, match=r"eel/1\.png cannot be read"):
        decode_many(index, range(12), 16)


def test_mean_and_deviation_are_timms() -> None:
    constants = import_module("timm.data.constants")
    assert (IMAGENET_MEAN, IMAGENET_STD) == (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD)


def test_normalisation_agrees_with_torchvision() -> None:
    from torchvision.transforms import v2

    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = v2.functional.normalize(images.float() / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(images), expected)
    torch.testing.assert_close(normalise(images.float() / 255), expected)
