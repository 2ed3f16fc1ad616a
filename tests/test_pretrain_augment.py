"""Batched augmentation: each part against torchvision on single images, and the distribution of the draws."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from cl_vs_mim.config import Blur, View
from cl_vs_mim.data import augment as A

NOTHING = View(crop_scale=(1, 1), crop_ratio=(1, 1), flip=0)
MOCO = View(
    crop_scale=(0.2, 1),
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grayscale=0.2,
    blur=Blur(probability=0.5),
    solarize=0.2,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6, size: int = 24, seed: int = 0) -> torch.Tensor:
    """uint8 images with gradients, greys and pure black and white, so that every branch of HSV is met."""
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator(seed), dtype=torch.uint8)
    images[0, :, : size // 2] = images[0, :1, : size // 2]
    images[1, :, :3] = 0
    images[1, :, 3:6] = 255
    return images


def only(**changes) -> A.Draws:
    """Draws that do nothing to six images of 24 px but ``changes``."""
    draws = A.draw(NOTHING, 6, 24, 24, generator())
    return dataclasses.replace(draws, **changes)


# ------------------------------------------------------------------------------------------------
# Parts against torchvision
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [24, 40, 9])
def test_crop_resize_flip(size, interpolation):
    images = pictures()
    box = torch.tensor([[0, 0, 24, 24], [3, 5, 10, 14], [20, 1, 4, 20], [0, 23, 24, 1], [7, 7, 12, 12], [2, 0, 22, 9]])
    flip = torch.tensor([False, True, False, True, True, False])
    actual = A.crop_resize_flip(images, box.float(), flip, size, interpolation)
    mode = getattr(v2.InterpolationMode, interpolation.upper())
    for image, (top, left, height, width), mirrored, result in zip(images, box.tolist(), flip, actual, strict=True):
        image = image.float() / 255
        expected = reference.resized_crop(image, top, left, height, width, [size, size], mode, antialias=True)
        expected = reference.horizontal_flip(expected) if mirrored else expected
        torch.testing.assert_close(result, expected.clamp(0, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("part", range(4))
def test_colour_jitter(part):
    factors = (
        torch.tensor([0.3, 0.8, 1.0, 1.2, 1.7, 0.0]) if part < 3 else torch.tensor([-0.5, -0.2, 0, 0.05, 0.3, 0.5])
    )
    jitter = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(6, 1)
    jitter[:, part] = factors
    images = pictures()
    actual = A.apply(images, only(jitter=jitter), 24)
    functions = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )
    for image, factor, result in zip(images.float() / 255, factors.tolist(), actual, strict=True):
        torch.testing.assert_close(result, functions[part](image, factor), rtol=0, atol=2e-5)


def test_jitter_follows_its_order():
    jitter = torch.tensor([[1.6, 0.5, 0.3, 0.2]]).repeat(6, 1)
    images = pictures()
    actual = A.apply(images, only(jitter=jitter, jitter_order=(3, 1, 0, 2)), 24)
    for image, result in zip(images.float() / 255, actual, strict=True):
        expected = reference.adjust_contrast(reference.adjust_hue(image, 0.2), 0.5)
        expected = reference.adjust_saturation(reference.adjust_brightness(expected, 1.6), 0.3)
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)


def test_grayscale_and_solarize_touch_only_the_chosen():
    images = pictures()
    chosen = torch.tensor([True, False, True, False, False, True])
    grey = A.apply(images, only(grayscale=chosen), 24)
    solar = A.apply(images, only(solarize=chosen), 24)
    for index, image in enumerate(images.float() / 255):
        expected = reference.rgb_to_grayscale(image, num_output_channels=3) if chosen[index] else image
        torch.testing.assert_close(grey[index], expected, rtol=0, atol=1e-5)
        expected = reference.solarize(image, 128 / 255) if chosen[index] else image
        torch.testing.assert_close(solar[index], expected, rtol=0, atol=1e-6)
    everything = A.apply(images, only(grayscale=torch.ones(6, dtype=torch.bool)), 24)
    torch.testing.assert_close(everything[chosen], grey[chosen])


def test_blur():
    images = pictures()
    sigma = torch.tensor([0.3, 0.0, 0.9, 1.5, 0.0, 2.5])
    actual = A.apply(images, only(sigma=sigma), 24)
    for image, width, result in zip(images.float() / 255, sigma.tolist(), actual, strict=True):
        kernel = 2 * math.ceil(4 * width) + 1
        expected = reference.gaussian_blur(image, [kernel, kernel], [width, width]) if width else image
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_nothing_asked_is_normalisation_alone():
    images = pictures()
    expected = reference.normalize(images.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(A.augment(images, NOTHING, 24, generator()), expected)


# ------------------------------------------------------------------------------------------------
# Draws
# ------------------------------------------------------------------------------------------------


def test_draws_are_the_generators_and_leave_the_source_alone():
    images = pictures()
    before = images.clone()
    first, again, other = (A.augment(images, MOCO, 32, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (6, 3, 32, 32) and first.isfinite().all()
    assert torch.equal(images, before)


def test_boxes_have_torchvisions_distribution():
    size, count = 48, 6000
    box = A.draw(MOCO, count, size, size, generator(3)).box
    top, left, height, width = box.unbind(1)
    assert ((top >= 0) & (left >= 0) & (top + height <= size) & (left + width <= size)).all()
    assert torch.equal(box, box.round())
    torch.manual_seed(0)
    image = torch.empty(3, size, size)
    drawn = [v2.RandomResizedCrop.make_params(v2.RandomResizedCrop(size, scale=(0.2, 1)), [image]) for _ in range(2000)]
    for ours, name in ((height, "height"), (width, "width"), (top, "top"), (left, "left")):
        theirs = torch.tensor([float(parameters[name]) for parameters in drawn])
        assert abs(ours.mean() - theirs.mean()) < 5 * theirs.std() / math.sqrt(2000), name
        assert abs(ours.std() / theirs.std() - 1) < 0.1, name
    area = height * width / size**2
    assert area.min() > 0.17 and area.max() == 1
    assert (top == size - height).float().mean() > 0.02, "the lowest position is reached too"


def test_box_falls_back_to_the_largest_centred_one():
    wide = View(crop_scale=(1, 1), crop_ratio=(2, 3))  # never fits a square
    box = A.draw(wide, 3, 24, 24, generator()).box
    assert box.tolist() == [[6.0, 0.0, 12.0, 24.0]] * 3


def test_probabilities_and_ranges():
    count = 20000
    draws = A.draw(MOCO, count, 48, 112, generator(5))
    jittered = draws.jitter[:, 0] != 1

    def near(observed, expected):
        assert abs(observed - expected) < 4 * math.sqrt(0.25 / count), (observed, expected)

    near(draws.flip.float().mean(), 0.5)
    near(jittered.float().mean(), 0.8)
    near(draws.grayscale.float().mean(), 0.2)
    near((draws.sigma > 0).float().mean(), 0.5)
    near(draws.solarize.float().mean(), 0.2)
    active = draws.jitter[jittered]
    for part, (low, high) in enumerate([(0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)]):
        assert active[:, part].min() == pytest.approx(low, abs=0.001)
        assert active[:, part].max() == pytest.approx(high, abs=0.001)
    blurred = draws.sigma[draws.sigma > 0]
    assert blurred.min() == pytest.approx(0.05, abs=0.002) and blurred.max() == pytest.approx(1.0, abs=0.002), (
        "sigma is given at 224 px and scales with the image"
    )
    strong = NOTHING.model_copy(update=dict(jitter_probability=1.0, brightness=1.5))
    assert A.draw(strong, 1000, 24, 24, generator()).jitter[:, 0].min() >= 0
