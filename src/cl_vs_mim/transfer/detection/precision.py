"""Predictions on the validation images and their average precision, by COCO's official arithmetic (pycocotools)."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator

import pandas as pd
import torch
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from torch import nn

from cl_vs_mim.core.progress import progress
from cl_vs_mim.data.coco import CocoSplit
from cl_vs_mim.transfer.detection.data import Record, category_names, evaluation_mapper, map_record, register
from cl_vs_mim.transfer.detection.settings import Detection

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # small: under 32^2 px of the original image, large: over 96^2
TASKS = {"bbox": "box", "segm": "mask"}
ALL = "all"


@torch.inference_mode()
def predictions(
    model: nn.Module, records: list[Record], settings: Detection, desc: str
) -> Iterator[tuple[Record, Instances]]:
    """Each image with what the detector finds on it, in px of the original image, best first.

    The model is put into evaluation mode. Images go through it one at a time, so the result does not depend on which
    come together.
    """
    model.eval()
    mapper = evaluation_mapper(settings)
    for record in progress(records, total=len(records), desc=desc, unit="image"):
        (output,) = model([map_record(mapper, record)])
        yield record, output["instances"].to("cpu")


def average_precision(split: CocoSplit, found: Iterable[tuple[Record, Instances]]) -> pd.DataFrame:
    """Rows of task, metric, category and value.

    Args:
        split: the split with the ground truth.
        found: the record of every image and the instances found in it.

    Returns:
        task ``box`` or ``mask``; for category ``all`` each of :data:`METRICS`, for each single category ``AP``; the
        value in percent, NaN where there is no such object in the ground truth (COCO's -1).
    """
    evaluator = COCOEvaluator(
        register(split), tasks=tuple(TASKS), distributed=False, use_fast_impl=False, allow_cached_coco=False
    )
    evaluator.reset()
    record, nothing = None, True
    for record, instances in found:
        evaluator.process([record], [{"instances": instances}])
        nothing = nothing and len(instances) == 0
    if nothing and record is not None:
        # pycocotools takes no empty list; one wrong guess has the same precision, 0, and leaves -1 where it belongs
        evaluator.process([record], [{"instances": _wrong_guess(record)}])
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        results = evaluator.evaluate()
    logging.getLogger("detectron2").info("pycocotools:\n%s", said.getvalue())

    rows, names = [], category_names(split)
    for task, label in TASKS.items():
        values = results[task]
        rows += [(label, metric, ALL, values[metric]) for metric in METRICS]
        # with a single category detectron2 leaves it out
        rows += [(label, "AP", name, values["AP"] if len(names) == 1 else values[f"AP-{name}"]) for name in names]
    return pd.DataFrame(rows, columns=["task", "metric", "category", "value"])


def _wrong_guess(record: Record) -> Instances:
    instances = Instances((record["height"], record["width"]))
    instances.pred_boxes = Boxes(torch.zeros(1, 4))
    instances.scores = torch.zeros(1)
    instances.pred_classes = torch.zeros(1, dtype=torch.int64)
    instances.pred_masks = torch.zeros(1, record["height"], record["width"], dtype=torch.bool)
    return instances
