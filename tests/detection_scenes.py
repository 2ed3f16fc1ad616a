"""A data set of a few bright rectangles in COCO's layout, and settings small enough to train on it in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cl_vs_mim.transfer.detection.settings import Detection

SIDE = 64  # px
CATEGORIES = {2: "disc", 5: "box", 9: "bar"}  # ids with gaps, as COCO's
TINY: dict[str, Any] = {
    **{"image_size": SIDE, "window": 4, "global_blocks": [1], "scale_range": [0.8, 1.25], "pyramid_channels": 8},
    **{"anchor_sizes": [8, 16, 24, 32, 48], "conv_dim": 8, "fc_dim": 16, "proposals": 20, "regions": 8},
    **{"iterations": 4, "batch_size": 2, "base_lr": 1.0e-3, "warmup_iterations": 1, "checkpoint_iterations": 2},
    **{"log_iterations": 1, "draw_images": 2, "clip_norm": 5.0},
}


def tiny(**changes: Any) -> Detection:
    """The settings, with changes."""
    return Detection.model_validate(TINY | changes)


def write_scenes(root: Path, images: int = 4) -> Path:
    """``root`` with train2017, val2017 and annotations; masks as run lengths and as polygons, one of them a crowd."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        folder = root / f"{split}2017"
        folder.mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        content: dict[str, Any] = {"images": [], "annotations": []}
        content["categories"] = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
        for image in range(1, images + 1):
            pixels = generator.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
            for place, category in enumerate(CATEGORIES):
                x, y = (int(value) for value in generator.integers(0, 16, 2))
                x, y, width, height = x + 20 * place, y + 4, 18 - 4 * place, 14 + 8 * place
                width = min(width, SIDE - x)
                pixels[y : y + height, x : x + width, place] = 220
                row = {"id": len(content["annotations"]) + 1, "image_id": image, "category_id": category}
                row |= {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
                content["annotations"].append(row | {"segmentation": _mask(x, y, width, height, polygon=place == 1)})
            name = f"{image:012d}.png"
            Image.fromarray(pixels).save(folder / name)
            content["images"].append({"id": image, "file_name": name, "width": SIDE, "height": SIDE})
        crowd = {"id": 999, "image_id": 1, "category_id": 9, "bbox": [0, 60, 64, 4], "area": 256, "iscrowd": 1}
        content["annotations"].append(crowd | {"segmentation": _mask(0, 60, 64, 4, polygon=False)})
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return root


def _mask(x: int, y: int, width: int, height: int, polygon: bool) -> Any:
    if polygon:
        return [[x, y, x + width, y, x + width, y + height, x, y + height]]
    inside = np.zeros((SIDE, SIDE), dtype=np.uint8)
    inside[y : y + height, x : x + width] = 1
    values = inside.flatten(order="F")
    edges = np.flatnonzero(np.diff(values, prepend=0))
    return {"size": [SIDE, SIDE], "counts": np.diff(edges, prepend=0, append=len(values)).tolist()}


def edit(root: Path, split: str = "train") -> Any:
    """The annotations of a split as they are, and a function that writes them back changed."""
    path = root / "annotations" / f"instances_{split}2017.json"
    return json.loads(path.read_text()), lambda content: path.write_text(json.dumps(content))
