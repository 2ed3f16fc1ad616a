"""A picture to look at: validation images with the true objects above and the predicted ones below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode, Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.data.coco import CocoSplit
from cl_vs_mim.transfer.detection.data import Record, metadata_of
from cl_vs_mim.transfer.detection.settings import Detection

_SIDE = 480  # px of the longer side of each drawn image
_INCH = 2.4  # of each drawn image


def sample_places(count: int, wanted: int) -> list[int]:
    """Places of ``wanted`` images (or of all), spread evenly over ``count``: the same for every encoder."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(wanted, count)).round()})


def draw_predictions(
    path: Path, split: CocoSplit, shown: Sequence[tuple[Record, Instances]], settings: Detection, title: str
) -> None:
    """Write a PNG: one column per image, a colour per category, predictions of ``draw_score`` and more."""
    metadata = metadata_of(split)
    figure = Figure(figsize=(_INCH * len(shown), 2 * _INCH + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, (record, instances) in enumerate(shown):
        axes[0, column].imshow(_draw(record, _truth(record), metadata))
        axes[1, column].imshow(_draw(record, _found(instances, settings.draw_score), metadata))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("ground truth")
    axes[1, 0].set_ylabel(f"predicted (score ≥ {settings.draw_score:g})")
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": None})


Objects = tuple[list[Any], list[Any], list[int], list[str]]  # masks, boxes, classes, what is written after the name


def _truth(record: Record) -> Objects:
    rows = [row for row in record["annotations"] if not row.get("iscrowd", 0)]
    boxes = [BoxMode.convert(row["bbox"], row["bbox_mode"], BoxMode.XYXY_ABS) for row in rows]
    return [row["segmentation"] for row in rows], boxes, [row["category_id"] for row in rows], [""] * len(rows)


def _found(instances: Instances, least: float) -> Objects:
    kept = instances[instances.scores >= least]
    scores = [f" {score:.0%}" for score in kept.scores.tolist()]
    return list(kept.pred_masks.numpy()), list(kept.pred_boxes.tensor.numpy()), kept.pred_classes.tolist(), scores


def _draw(record: Record, objects: Objects, metadata: Any) -> np.ndarray:
    """(H', W', 3) uint8, enlarged to a size at which labels can be read."""
    image = read_image(record["file_name"], format="RGB")
    visualizer = Visualizer(image, metadata, scale=_SIDE / max(image.shape[:2]))
    masks, boxes, classes, notes = objects
    if not classes:
        return visualizer.get_output().get_image()
    names = metadata.thing_classes
    colours = [colormaps["turbo"]((number + 0.5) / len(names))[:3] for number in classes]
    labels = [names[number] + note for number, note in zip(classes, notes, strict=True)]
    # with colours given nothing is drawn at random
    drawn = visualizer.overlay_instances(
        labels=labels, boxes=np.array(boxes), masks=masks, assigned_colors=colours, alpha=0.4
    )
    return drawn.get_image()
