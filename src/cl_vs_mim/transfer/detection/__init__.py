"""Detection and instance segmentation with detectron2: Mask R-CNN on any of our encoders, as in ViTDet.

detectron2 is imported in here only, and not by this module.
"""

from __future__ import annotations

from cl_vs_mim.config.tasks import Score, Task
from cl_vs_mim.transfer.detection.settings import Detection

TASK = Task(
    name="detection",
    title="detection and instance segmentation, Mask R-CNN",
    section="transfer.detection",
    settings=Detection,
    train="cl_vs_mim.transfer.detection.train",
    evaluate="cl_vs_mim.transfer.detection.evaluate",
    tables=("detection",),
    runs="pair",
    any_size=True,
    data="scenes",
    part="coco",
    later=frozenset({"least_score", "draw_images", "draw_score"}),
    words=frozenset({"log_iterations", "checkpoint_iterations"}),
    files={"picture": "pictures/detection/{run}.png"},
    retrains=("cl_vs_mim.transfer.detection.detector",),
    packages={"detectron2": "detectron2", "pycocotools": "pycocotools"},
    extra="the extra 'detection' and detectron2.lock",
    verb="detection",
    scores=tuple(
        Score(
            name=f"{task} AP",
            title=f"{task} AP",
            table="detection",
            where={"task": task, "metric": "AP", "category": "all"},
            published=("c (right)", "x") if task == "box" else None,
            place=place,
        )
        for task, place in (("box", 30), ("mask", 40))
    ),
)
