"""A detector measured on the validation images by COCO's arithmetic, and a picture of what it finds on a few."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from detectron2.structures import Instances

from cl_vs_mim.core.tables import with_columns
from cl_vs_mim.data.coco import read_coco
from cl_vs_mim.transfer.detection.data import Record, records_of
from cl_vs_mim.transfer.detection.detector import Detector
from cl_vs_mim.transfer.detection.draw import draw_predictions, sample_places
from cl_vs_mim.transfer.detection.precision import average_precision, predictions
from cl_vs_mim.transfer.detection.train import LOG, logs_to
from cl_vs_mim.transfer.job import Job


def evaluate(job: Job, trained: Detector) -> dict[str, pd.DataFrame]:
    """Table ``detection``: a row per task (box, mask), metric and category, average precision in per cent.

    Option of the job: ``picture``, where validation images with true and predicted objects are drawn, or None.
    """
    settings, label = trained.settings, f"{job.evaluated.label}, seed {job.evaluated.seed}"
    _, split = read_coco(job.data)
    with logs_to(job.held.path / LOG):
        records = records_of(split)
        places, shown = set(sample_places(len(records), settings.draw_images)), []

        def found() -> Iterator[tuple[Record, Instances]]:
            pairs = predictions(trained.model, records, settings, f"evaluate {job.evaluated.model}")
            for place, pair in enumerate(pairs):
                if place in places:
                    shown.append(pair)
                yield pair

        rows = average_precision(split, found())
        if job.options.get("picture") is not None:
            draw_predictions(job.options["picture"], split, shown, settings, label)
    return {"detection": with_columns(rows, {"iterations": trained.step, "unit": "percent"})}
