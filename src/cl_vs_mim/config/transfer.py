"""What encoders are good for: fine-tuning and probing on labels. Every model of a study gets the same recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from cl_vs_mim.config.analysis import Block, Labels
from cl_vs_mim.config.detection import Detection
from cl_vs_mim.config.models import Training
from cl_vs_mim.config.sections import Fraction, NonNegative, Section
from cl_vs_mim.config.segmentation import Segmentation
from cl_vs_mim.config.views import View


class FineTuning(Section):
    """All weights trained on labels, lower layers more slowly (BEiT's recipe, arXiv 2106.08254; MAE's and SimMIM's)."""

    labels: Labels
    pooling: Literal["cls", "mean"] = "mean"
    layer_decay: Annotated[float, Field(gt=0, le=1)]  # factor of the learning rate from a layer to the one below
    mixup: NonNegative = 0.8  # alpha; 0: none
    cutmix: NonNegative = 1.0
    label_smoothing: Fraction = 0.1
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None  # decay of a running mean of the weights that is evaluated
    views: tuple[View]
    training: Training
    choices: str = ""  # what differs from the published recipe, and why


class AugmentedProbe(Section):
    """One linear layer on a frozen encoder, on augmented images: protocol ``augmented_probe``."""

    labels: Labels
    depth: Block = -1  # which block's tokens; the paper probes the last one
    pooling: Literal["cls", "mean"] = "mean"
    final_norm: bool = True  # the encoder's last LayerNorm before the pooling, after the last block only
    batch_norm: bool = True  # BatchNorm without affine before the layer (MAE's code)
    init_std: PositiveFloat = 0.01
    views: tuple[View]
    training: Training
    choices: str = ""


class Transfer(Section):
    """Absent parts are not done in this study."""

    finetuning: FineTuning | None = None
    augmented_probe: AugmentedProbe | None = None
    detection: Detection | None = None
    segmentation: Segmentation | None = None
