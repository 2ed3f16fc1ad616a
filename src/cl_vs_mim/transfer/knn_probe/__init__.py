"""Probes by nearest neighbours at every depth: nothing is trained, so no learning rate can favour an encoder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from cl_vs_mim.config.analysis import Labels
from cl_vs_mim.config.sections import Section, Unique
from cl_vs_mim.config.tasks import Task


class KnnProbe(Section):
    """Votes of the nearest training images, protocol ``knn``; ``transfer.knn_probe`` of a study."""

    labels: Annotated[list[Labels], Field(min_length=1), Unique]
    neighbours: PositiveInt = 20  # that vote, those with the largest cosine
    temperature: PositiveFloat = 0.07  # of the votes: exp(cosine / temperature)
    final_norm: bool = False  # the encoder's last LayerNorm before the pooling
    choices: str = ""


TASK = Task(
    name="knn_probe",
    title="votes of the nearest training images, at every depth",
    section="transfer.knn_probe",
    settings=KnnProbe,
    evaluate="cl_vs_mim.transfer.knn_probe.evaluate",
    tables=("knn_probe",),
    runs="methods",
    also=("analysis.crop_fraction",),
)
