"""Semantic segmentation with mmseg's heads on any encoder, on folders laid out as ADE20K.

The network, the loss and the measure are mmseg's; the loop is that of pre-training, which is why a run survives being
killed. mmseg is imported in here only, and not by this module.
"""

from __future__ import annotations

from cl_vs_mim.config.tasks import Score, Task
from cl_vs_mim.transfer.segmentation.settings import Segmentation

TASK = Task(
    name="segmentation",
    title="semantic segmentation, UPerNet",
    section="transfer.segmentation",
    settings=Segmentation,
    train="cl_vs_mim.transfer.segmentation.train",
    evaluate="cl_vs_mim.transfer.segmentation.evaluate",
    tables=("segmentation",),
    runs="pair",
    any_size=True,
    data="scenes",
    part="ade20k",
    later=frozenset({"draw_images", "slide_stride"}),
    files={"picture": "pictures/segmentation/{run}.png"},
    packages={"mmseg": "onedl-mmsegmentation", "mmengine": "onedl-mmengine"},
    extra="the extra 'segmentation'",
    verb="segmentation",
    scores=(
        Score(
            name="mIoU",
            title="mIoU (%)",
            table="segmentation",
            where={"task": "segmentation", "metric": "mIoU", "category": "all"},
            place=50,
        ),
    ),
)
