"""Attentive probes at every depth: one learned query chooses among the tokens before the linear layer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from cl_vs_mim.config.analysis import Labels
from cl_vs_mim.config.sections import Decay, Section, Seed, Unique
from cl_vs_mim.config.tasks import Task


class AttentiveProbe(Section):
    """A query and a linear layer on the tokens of each depth, protocol ``attentive``; ``transfer.attentive_probe``."""

    labels: Annotated[list[Labels], Field(min_length=1), Unique]
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1), Unique]  # per 256 images; chosen as in `cached`
    selection_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of the training images, held back for the choice
    epochs: PositiveInt
    batch_size: PositiveInt
    momentum: Decay = 0.9
    final_norm: bool = False  # the encoder's last LayerNorm before the probe
    seed: Seed = 0
    choices: str = ""


TASK = Task(
    name="attentive_probe",
    title="a learned query and a linear layer, at every depth",
    section="transfer.attentive_probe",
    settings=AttentiveProbe,
    evaluate="cl_vs_mim.transfer.attentive_probe.evaluate",
    tables=("attentive_probe",),
    runs="methods",
    also=("analysis.crop_fraction", "analysis.batch_size"),
)
