"""Augmented views of an image, as the YAML describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from cl_vs_mim.config.sections import Fraction, NonNegative, Pixels, PositiveRange, Section, ShareRange


class Blur(Section):
    """Gaussian blur of one view."""

    probability: Fraction
    sigma: PositiveRange = (0.1, 2.0)  # px at the reference size of 224 px; scaled with the image


class RandAugment(Section):
    """RandAugment (Cubuk et al., arXiv 1909.13719), torchvision's, image by image."""

    operations: PositiveInt = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class View(Section):
    """How one augmented view is drawn. Strengths as in torchvision's transforms of the same names."""

    size: Pixels | None = None  # px; the encoder's image size by default (DINO's small crops differ)
    crop_scale: ShareRange  # area fraction of RandomResizedCrop
    crop_ratio: PositiveRange = (3 / 4, 4 / 3)  # aspect ratio, width over height
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"  # of the resized crop
    flip: Fraction = 0.5
    jitter_probability: Fraction = 0.0
    brightness: NonNegative = 0.0
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    grayscale: Fraction = 0.0
    blur: Blur | None = None
    solarize: Fraction = 0.0
    rand_augment: RandAugment | None = None
