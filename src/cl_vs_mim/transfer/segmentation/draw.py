"""What a segmenter says of a few validation images, beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.patches import Patch
from torch import Tensor

from cl_vs_mim.core import pages
from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.data.ade20k import IGNORED, SceneSplit, open_pair

_ROWS = ("image", "truth", "prediction")
_SIDE = 1.5  # inches of a panel
_ALPHA = 0.65


def draw_predictions(
    classify: Callable[[Tensor], Tensor], split: SceneSplit, count: int, device: torch.device, title: str, output: Path
) -> None:
    """Write a PNG: the first ``count`` images of the split, their labels, and what ``classify`` says."""
    palette = mpl.colormaps["tab20"](np.arange(len(split.classes)) % 20)[:, :3]
    seen: set[int] = set()
    with pages.house_style():
        figure = pages.new_figure(max(4.5, _SIDE * count), _SIDE * len(_ROWS) + 1.2)
        panels = figure.subplots(len(_ROWS), count, squeeze=False)
        for column in range(count):
            picture, truth = open_pair(split, column)
            pixels = np.asarray(picture).copy()
            found = classify(torch.from_numpy(pixels).permute(2, 0, 1).to(device)).cpu().numpy()
            for axes, labels in zip(panels[:, column], (None, truth, found), strict=True):
                axes.imshow(pixels if labels is None else _painted(pixels, labels, palette))
                axes.set(xticks=[], yticks=[])
                if labels is not None:
                    seen |= set(np.unique(labels[labels != IGNORED]).tolist())
        for axes, name in zip(panels[:, 0], _ROWS, strict=True):
            axes.set_ylabel(name)
        handles = [Patch(color=palette[number], label=split.classes[number]) for number in sorted(seen)]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        figure.suptitle(title, fontsize=8)
        with atomic_path(output) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _painted(pixels: np.ndarray, labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 and (H, W) classes -> colours over the grey picture; unlabelled pixels stay grey."""
    grey = np.repeat(pixels.mean(axis=2, keepdims=True) / 255, 3, axis=2)
    colours = palette[np.minimum(labels, len(palette) - 1)]
    return np.where((labels == IGNORED)[..., None], grey, (1 - _ALPHA) * grey + _ALPHA * colours)
