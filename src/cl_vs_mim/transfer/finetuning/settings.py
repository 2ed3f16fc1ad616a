"""Settings of fine-tuning, ``transfer.finetuning`` of a study. Every model gets the same recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cl_vs_mim.config.analysis import Labels
from cl_vs_mim.config.models import Training
from cl_vs_mim.config.sections import Fraction, NonNegative, Section
from cl_vs_mim.config.views import View


class FineTuning(Section):
    """All weights trained on labels, lower layers more slowly (BEiT's recipe, arXiv 2106.08254; MAE's and SimMIM's)."""

    labels: Labels
    pooling: Literal["cls", "mean"] = "mean"
    layer_decay: Annotated[float, Field(gt=0, le=1)]  # factor of the learning rate from a layer to the one below
    # The last norm and a table of relative positions that all blocks share learn at the full rate, and the table
    # decays, as in SimMIM's code; without it they learn as the last and as the first layer do.
    original_layers: bool = False
    # Each block trains a copy of its own of such a table, at the block's rate, as in SimMIM's and BEiT's code.
    positions_by_block: bool = False
    mixup: NonNegative = 0.8  # alpha; 0: none
    cutmix: NonNegative = 1.0
    label_smoothing: Fraction = 0.1
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None  # decay of a running mean of the weights that is evaluated
    views: tuple[View]
    training: Training
    choices: str = ""  # what differs from the published recipe, and why
