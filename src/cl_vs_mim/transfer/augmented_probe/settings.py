"""Settings of the augmented probe, ``transfer.augmented_probe`` of a study. Every model gets the same recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from cl_vs_mim.config.analysis import Block, Labels
from cl_vs_mim.config.models import Training
from cl_vs_mim.config.sections import Section
from cl_vs_mim.config.views import View


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
