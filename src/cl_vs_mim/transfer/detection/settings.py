"""Detection and instance segmentation: Mask R-CNN on an encoder, by the recipe of ViTDet (arXiv 2203.16527)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cl_vs_mim.config.sections import Count, Fraction, NonNegative, Section

Positive = Annotated[float, Field(gt=0)]
Pyramid = tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]


class Detection(Section):
    """Architecture of the detector, its training and its evaluation. "Original": ViTDet's ViT-B on COCO."""

    # Images
    image_size: PositiveInt  # px of the square crop in training, of the longest side in evaluation; original: 1024
    scale_range: tuple[Positive, Positive] = (0.1, 2.0)  # large-scale jitter: size over image_size; original: the same

    # Backbone
    window: PositiveInt | None = None  # patches along a side; null: every block attends globally
    # original: 14, with padding; here image_size has to be whole windows
    global_blocks: tuple[Count, ...] = ()  # counted from 0; original: 2, 5, 8, 11
    drop_path: Fraction = 0.0  # stochastic depth of the last block, rising from 0; original: 0.1
    pyramid_channels: PositiveInt = 256  # of each level; original: 256

    # Heads
    anchor_sizes: Pyramid = (32, 64, 128, 256, 512)  # px, at strides of 1/4, 1/2, 1, 2, 4 patches; original: the same
    conv_dim: PositiveInt = 256  # channels of the convolutions in the box and the mask head; original: 256
    fc_dim: PositiveInt = 1024  # width of the box head's linear layer; original: 1024
    proposals: PositiveInt = 1000  # per image, kept by suppression; in training out of twice as many; original: 1000
    regions: PositiveInt = 512  # per image, on which the heads are trained; original: 512

    # Training
    iterations: PositiveInt  # original: 184375, which is 100 epochs of 118000 images
    batch_size: PositiveInt  # images; original: 64
    accumulate: PositiveInt = 1  # parts a batch is cut into, one after the other
    base_lr: PositiveFloat  # of AdamW; original: 1e-4
    warmup_iterations: Count = 250  # linear, from a thousandth; original: 250
    milestones: tuple[Fraction, ...] = (0.889, 0.963)  # shares of the iterations; original: 163889, 177546 of 184375
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1  # factor at each milestone; original: 0.1
    weight_decay: NonNegative = 0.1  # none for norms, positions, CLS and LayerScale; original: 0.1
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.7  # factor of the rate per block from the top; original: 0.7
    clip_norm: PositiveFloat | None = None  # of all gradients together; original: none
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # of the encoder; auto: bf16 on a GPU; original: fp16
    checkpoint_iterations: PositiveInt = 500  # a kill loses at most this many
    log_iterations: PositiveInt = 20

    # Evaluation
    least_score: Fraction = 0.05  # of a prediction that counts; original: 0.05, detectron2's default
    draw_images: Annotated[int, Field(ge=1, le=16)] = 4  # validation images, spread evenly over the set
    draw_score: Fraction = 0.3  # least score of a prediction that is drawn

    @model_validator(mode="after")
    def _consistent(self) -> Detection:
        if self.window is None and self.global_blocks:
            raise ValueError("global_blocks: only with a window; without one every block attends globally")
        if self.window is not None and self.image_size % self.window:
            raise ValueError(
                f"image_size: {self.image_size} px is not whole windows of {self.window} patches, whatever the patch"
            )
        if self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"scale_range: {self.scale_range[0]:g} exceeds {self.scale_range[1]:g}")
        if any(low >= high for low, high in pairwise((0.0, *self.milestones, 1.0))):
            raise ValueError("milestones: shares of the training in rising order, greater than 0 and smaller than 1")
        if self.warmup_iterations >= self.iterations:
            raise ValueError(f"warmup_iterations {self.warmup_iterations} reach to the end, {self.iterations}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} does not divide batch_size {self.batch_size}")
        return self
