"""Reading an ImageFolder, ours or ImageNet's: the index, an even selection, and decoded batches.

Pixels stay uint8 until the device normalises them; a damaged file is named instead of crashing a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cl_vs_mim.core.errors import UserError, warn
from cl_vs_mim.core.pictures import open_rgb
from cl_vs_mim.core.progress import progress

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of R, G and B in 0 … 1; timm's and torchvision's
IMAGENET_STD = (0.229, 0.224, 0.225)
_said: set[tuple[str, int]] = set()  # folders of which it was said that their images are enlarged

# ------------------------------------------------------------------------------------------------
# Index
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageFolderIndex:
    """The files of an ImageFolder in its fixed order (classes by name, files by name)."""

    root: Path
    paths: tuple[str, ...]  # relative to root
    labels: np.ndarray  # (M,) int64
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def index_image_folder(root: Path) -> ImageFolderIndex:
    """List ``root/<class>/<file>``.

    Raises:
        UserError: the folder is missing, holds no class folder, or a class is empty.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset  # workers start without it

    root = Path(root)
    try:
        classes, class_to_index = find_classes(root)
        samples = make_dataset(root, class_to_index, extensions=IMG_EXTENSIONS)
    except OSError as error:
        said = error if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{root} is not an ImageFolder (root/class/image.jpg): {said}") from error
    return ImageFolderIndex(
        root=root,
        paths=tuple(Path(path).relative_to(root).as_posix() for path, _ in samples),
        labels=np.array([label for _, label in samples], dtype=np.int64),
        classes=tuple(classes),
    )


def select_evenly(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of ``count`` images spread evenly over the classes, in random order, the same for equal arguments.

    Images are drawn round by round, one of each class; with fewer images than classes, that many random classes
    get one each.

    Raises:
        UserError: more images are asked for than there are.
    """
    if count > len(labels):
        raise UserError(f"{count} images asked for, but the data set has {len(labels)}; lower analysis.images")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)  # how many images of its class come before, in this order
    seen: dict[int, int] = {}
    for position in order:
        label = int(labels[position])
        turn[position] = seen[label] = seen.get(label, -1) + 1
    ranked = sorted(order, key=lambda position: turn[position])  # stable: keeps the random order within a round
    return np.array(ranked[:count])


# ------------------------------------------------------------------------------------------------
# Pixels
# ------------------------------------------------------------------------------------------------


def decode(path: Path, size: int, crop_fraction: float = 1.0) -> np.ndarray:
    """One image as (size, size, 3) uint8: shorter side to ``size / crop_fraction`` (bicubic), then the centre.

    ``crop_fraction`` 0.875 with 224 px is ImageNet's evaluation transform; 1.0 leaves square images whole.

    Raises:
        UserError: the file is missing or not a readable image; the message names it.
    """
    return _square(open_rgb(path), size, crop_fraction)


def _square(image: Image.Image, size: int, crop_fraction: float) -> np.ndarray:
    shorter = round(size / crop_fraction)
    scale = shorter / min(image.size)
    if scale != 1:
        resized = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
        image = image.resize(resized, Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def decode_many(
    index: ImageFolderIndex,
    positions: Sequence[int] | np.ndarray,
    size: int,
    *,
    crop_fraction: float = 1.0,
    workers: int = 2,
    bar: bool = False,
) -> Tensor:
    """Decode the images at ``positions`` to (len(positions), 3, size, size) uint8, whatever the number of workers.

    ``bar`` shows a progress bar.
    """
    images = np.empty((len(positions), size, size, 3), dtype=np.uint8)

    def load(slot: int) -> int:
        picture = open_rgb(index.root / index.paths[positions[slot]])
        images[slot] = _square(picture, size, crop_fraction)
        return min(picture.size)

    with ThreadPoolExecutor(workers) as pool:
        slots = pool.map(load, range(len(positions)))
        sides = list(progress(slots, total=len(positions), desc="decode", unit="image", quiet=not bar))
    _say_enlarged(index, positions, sides, size)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _say_enlarged(index: ImageFolderIndex, positions: Sequence[int] | np.ndarray, sides: list[int], size: int) -> None:
    """Once a folder and size: detail that an encoder looks for is not there in images that were enlarged for it."""
    small = [slot for slot, side in enumerate(sides) if side < size]
    if small and (str(index.root), size) not in _said:
        _said.add((str(index.root), size))
        first = min(small, key=sides.__getitem__)
        warn(
            f"{index.root} has images smaller than the {size} px they are shown at ({len(small)} of the first "
            f"{len(sides)}; {index.paths[positions[first]]} has {sides[first]} px on its shorter side); they are "
            "enlarged, which adds no detail"
        )


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) in 0 … 255, or float in 0 … 1, to float32 with ImageNet's mean and standard deviation."""
    if images.dtype == torch.uint8:
        images = images.float() / 255
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std
