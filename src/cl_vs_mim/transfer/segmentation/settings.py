"""Semantic segmentation: UPerNet on the feature maps of an encoder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from cl_vs_mim.config.analysis import Block
from cl_vs_mim.config.models import Training
from cl_vs_mim.config.sections import Fraction, NonNegative, PositiveRange, Section


class Segmentation(Section):
    """BEiT's recipe for ADE20K (arXiv 2106.08254, Appendix), by mmseg's parts."""

    image_size: PositiveInt  # px of the square crops, whole patches (the original: 512)
    out_blocks: tuple[Block, Block, Block, Block]  # read at four resolutions (the original: 4, 6, 8, 12 of 12)
    channels: PositiveInt  # of UPerNet (the original: 768)
    auxiliary_channels: PositiveInt  # of the second head, on the third map (the original: 256)
    auxiliary_weight: NonNegative = 0.4
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    scale_range: PositiveRange = (0.5, 2.0)  # of the shorter side over image_size, before cropping
    category_max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.75  # another crop where one category fills more
    jitter_probability: Fraction = 0.5
    brightness: NonNegative = 0.125
    contrast: NonNegative = 0.5
    saturation: NonNegative = 0.5
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    slide_stride: PositiveInt | None = None  # px between the test's windows (the original: 341); None: seen whole
    training: Training
    draw_images: NonNegativeInt = 4  # validation images in the picture
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # before the classifying layer
    choices: str = ""  # what differs from the published recipe, and why

    @model_validator(mode="after")
    def _batches_have_statistics(self) -> Segmentation:
        if self.training.batch_size // self.training.accumulate < 2:
            raise ValueError("training.batch_size: BatchNorm needs two images or more at a time")
        return self
