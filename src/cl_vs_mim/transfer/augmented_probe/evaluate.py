"""Accuracy of the augmented probe on images it has not been trained on."""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.transfer.augmented_probe.train import Probed
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.predictions import prediction_rows


def evaluate(job: Job, trained: Probed) -> dict[str, pd.DataFrame]:
    """Table ``augmented_probe``: a row per validation image, and with categories per image of a held-out object."""
    trained.eval()
    parameters = sum(weight.numel() for weight in trained.encoder.parameters())
    return {"augmented_probe": prediction_rows(trained.logits, job, depth=trained.depth, parameters=parameters)}
