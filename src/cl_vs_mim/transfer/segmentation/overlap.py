"""Mean intersection over union, by mmseg's measure, as tidy rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from mmseg.evaluation import IoUMetric
from torch import Tensor

from cl_vs_mim.core.progress import progress
from cl_vs_mim.data.ade20k import IGNORED, SceneSplit, open_pair

TASK = "segmentation"


def overlap(classify: Callable[[Tensor], Tensor], split: SceneSplit, device: torch.device) -> pd.DataFrame:
    """Rows ``task metric category value`` (per cent) of a split.

    Args:
        classify: (3, H, W) uint8 -> (H, W) classes; for example :meth:`~.network.Segmenter.classify`.
        split: images and truth.
        device: where ``classify`` gets its images.

    Returns:
        ``mIoU``, ``mAcc`` and ``aAcc`` over all categories that occur or are named, ``IoU`` and ``Acc`` of each
        category; NaN for a category that neither occurs nor is named.
    """
    areas = []
    for position in progress(range(len(split)), desc=f"evaluate {split.name}", unit="image"):
        picture, truth = open_pair(split, position)
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).to(device)
        found = classify(pixels).cpu()
        areas.append(IoUMetric.intersect_and_union(found, torch.from_numpy(truth).long(), len(split.classes), IGNORED))
    totals = [sum(parts) for parts in zip(*areas, strict=True)]
    values = IoUMetric.total_area_to_metrics(*totals, metrics=["mIoU"])
    rows = [
        {"metric": name, "category": "all", "value": 100 * float(np.nanmean(values[key]))}
        for name, key in (("mIoU", "IoU"), ("mAcc", "Acc"), ("aAcc", "aAcc"))
    ]
    for key in ("IoU", "Acc"):
        each = zip(split.classes, values[key], strict=True)
        rows += [{"metric": key, "category": name, "value": 100 * float(value)} for name, value in each]
    return pd.DataFrame(rows).assign(task=TASK, images=len(split))
