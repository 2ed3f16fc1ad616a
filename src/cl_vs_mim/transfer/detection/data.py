"""Images for detectron2: registered data sets, large-scale jitter, and an order that is a function of the step.

The sample at a position of the training is drawn from the seed and the position alone, so a resumed run sees the
images an undisturbed one sees, whatever the number of workers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import detectron2.data.transforms as transforms
import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.data.detection_utils import SizeMismatchError
from torch.utils.data import DataLoader, Dataset

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.pictures import require_eight_bits
from cl_vs_mim.core.randomness import derive_seed, generator_for
from cl_vs_mim.data.coco import CocoSplit
from cl_vs_mim.pretrain.carried import Carried, delivered
from cl_vs_mim.transfer.detection.settings import Detection

Record = dict[str, Any]  # an image in detectron2's format


def register(split: CocoSplit) -> str:
    """Make the split known to detectron2; returns its name there, which holds the content's hash."""
    name = f"coco:{split.annotations.resolve()}:{split.digest[:12]}"
    if name not in DatasetCatalog.list():
        register_coco_instances(name, {}, str(split.annotations), str(split.images))
    return name


def records_of(split: CocoSplit, objects_only: bool = False) -> list[Record]:
    """The images of a split, by id; ``objects_only``: those with an object that is no crowd."""
    return get_detection_dataset_dicts(register(split), filter_empty=objects_only)


# ------------------------------------------------------------------------------------------------
# Mappers
# ------------------------------------------------------------------------------------------------


def training_mapper(settings: Detection) -> DatasetMapper:
    """Flip, large-scale jitter (Ghiasi et al., arXiv 2012.07177) and a square crop, as in ViTDet.

    Crops of an image made smaller than the square are not padded here: the detector does that after normalisation.
    """
    size, (low, high) = settings.image_size, settings.scale_range
    steps = [
        transforms.RandomFlip(horizontal=True),
        transforms.ResizeScale(min_scale=low, max_scale=high, target_height=size, target_width=size),
        transforms.FixedSizeCrop(crop_size=(size, size), pad=False),
    ]
    return _mapper(True, steps)


def evaluation_mapper(settings: Detection) -> DatasetMapper:
    """The whole image, its longest side as long as the square of training."""
    size = settings.image_size
    return _mapper(False, [transforms.ResizeShortestEdge(short_edge_length=size, max_size=size)])


def _mapper(training: bool, steps: list[transforms.Augmentation]) -> DatasetMapper:
    return DatasetMapper(
        is_train=training,
        augmentations=steps,
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",  # takes polygons and run lengths alike
        recompute_boxes=training,  # a crop cuts objects
    )


def map_record(mapper: DatasetMapper, record: Record) -> Record:
    """The mapper's result.

    Raises:
        UserError: the file is no image of 8 bits, or has not the size of its row.
    """
    require_eight_bits(Path(record["file_name"]))  # detectron2 opens it by itself, whatever it is
    try:
        return mapper(record)
    except SizeMismatchError as error:
        raise UserError(
            f"{record['file_name']} is not of {record['width']}x{record['height']} px, as its row (id "
            f"{record['image_id']}) in the annotations says; correct the row or the file"
        ) from error
    except OSError as error:
        raise UserError(f"{record['file_name']} is not a readable image ({error}); fetch or build it again") from error


@contextmanager
def numpy_randomness(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed numpy's global generator inside the block and put it back afterwards: detectron2 draws from no other."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(derive_seed(seed, *purpose) % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


# ------------------------------------------------------------------------------------------------
# Training order
# ------------------------------------------------------------------------------------------------


class TrainingSamples(Dataset):
    """Position in the training -> augmented sample. Each epoch is a permutation of all images.

    Args:
        records: all training images.
        settings: size of the crop, jitter, batch size and number of iterations.
        seed: seeds the order and the augmentation.
    """

    def __init__(self, records: list[Record], settings: Detection, seed: int) -> None:
        self._records, self._seed = records, seed
        self._mapper = training_mapper(settings)
        self._count = settings.iterations * settings.batch_size
        self._epoch = -1
        self._order: list[int] = []

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> Record:
        epoch, place = divmod(position, len(self._records))
        if epoch != self._epoch:
            generator = generator_for(self._seed, "detection", "order", epoch)
            self._order = torch.randperm(len(self._records), generator=generator).tolist()
            self._epoch = epoch
        record = copy.copy(self._records[self._order[place]])
        with numpy_randomness(self._seed, "detection", "sample", position):
            return map_record(self._mapper, record)


def training_batches(samples: TrainingSamples, batch_size: int, first: int, workers: int) -> Iterator[list[Record]]:
    """Batches from iteration ``first`` on, read ahead by ``workers`` processes (0: read when asked for)."""
    loader = DataLoader(
        Carried(samples),
        batch_size=batch_size,
        sampler=range(first * batch_size, len(samples)),
        num_workers=workers,
        collate_fn=list,
        prefetch_factor=4 if workers else None,
    )
    return map(delivered, loader)


def category_names(split: CocoSplit) -> list[str]:
    """Names in the order of detectron2's class numbers."""
    return [name for _, name in split.categories]


def metadata_of(split: CocoSplit) -> Any:
    """detectron2's metadata of a registered split, with class names."""
    return MetadataCatalog.get(register(split))
