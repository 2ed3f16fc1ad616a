"""The augmented probe: one linear layer trained on a frozen encoder and augmented images, as the paper probes."""

from __future__ import annotations

from cl_vs_mim.config.tasks import Score, Task
from cl_vs_mim.transfer.augmented_probe.settings import AugmentedProbe

TASK = Task(
    name="augmented_probe",
    title="linear probing with augmented images",
    section="transfer.augmented_probe",
    settings=AugmentedProbe,
    train="cl_vs_mim.transfer.augmented_probe.train",
    evaluate="cl_vs_mim.transfer.augmented_probe.evaluate",
    tables=("augmented_probe",),
    also=("analysis.crop_fraction",),
    verb="augmented-probe",
    scores=(
        Score(
            name="linear probe",
            title="linear probe (%)",
            table="augmented_probe",
            where={"split": "val"},
            rows="images",
            factor=100,
            chance="chance",
            published=("a (left)", "x"),
            place=10,
        ),
    ),
)
