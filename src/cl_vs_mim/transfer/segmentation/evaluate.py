"""A segmenter measured on the validation images, and what it says of a few of them as a picture."""

from __future__ import annotations

import pandas as pd

from cl_vs_mim.data.ade20k import VALIDATION, read_split
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.segmentation.draw import draw_predictions
from cl_vs_mim.transfer.segmentation.network import Segmenter
from cl_vs_mim.transfer.segmentation.overlap import overlap


def evaluate(job: Job, trained: Segmenter) -> dict[str, pd.DataFrame]:
    """Table ``segmentation``: a row per metric and category, per cent; see :func:`.overlap.overlap`.

    Option of the job: ``picture``, where validation images, their labels and the predictions are drawn, or None.
    """
    trained.eval()
    split = read_split(job.data, VALIDATION, job.threads)
    rows = overlap(trained.classify, split, job.device)
    if job.options.get("picture") is not None:
        title = f"{job.evaluated.label}, seed {job.evaluated.seed}: UPerNet after {trained.steps} steps"
        title += f", study {job.study.study}"
        count = min(job.settings.draw_images, len(split))
        draw_predictions(trained.classify, split, count, job.device, title, job.options["picture"])
    return {"segmentation": rows}
