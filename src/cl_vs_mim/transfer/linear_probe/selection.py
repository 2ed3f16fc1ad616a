"""Which learning rate a probe gets, chosen on training images held back; and the tidy rows of what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.images import select_evenly
from cl_vs_mim.encoder.pooling import POOLINGS
from cl_vs_mim.transfer.linear_probe.fitting import LinearMaps

# ------------------------------------------------------------------------------------------------
# Held-back images
# ------------------------------------------------------------------------------------------------


class HeldBack(Protocol):
    """Settings of a probe that choose among learning rates."""

    @property
    def selection_fraction(self) -> float:
        """Of the training images, held back for the choice."""

    @property
    def seed(self) -> int:
        """Of their draw."""


def hold_back(folders: np.ndarray, settings: HeldBack, section: str = "analysis.probe") -> tuple[Tensor, Tensor]:
    """Positions of the training images to fit on and of those held back, (n,) and (m,) int64, each ascending.

    Held back are ``settings.selection_fraction`` of the images, spread evenly over the classes ``folders`` (M,),
    drawn from ``settings.seed``. The validation images have no part in it.

    Raises:
        UserError: a class would be left without an image to fit on.
    """
    count = max(1, round(settings.selection_fraction * len(folders)))
    held = np.sort(select_evenly(folders, count, settings.seed))
    fitted = np.setdiff1d(np.arange(len(folders)), held)
    if lost := sorted(set(folders.tolist()) - set(folders[fitted].tolist())):
        raise UserError(
            f"holding back {count} of {len(folders)} training images leaves {len(lost)} classes without any; lower "
            f"{section}.selection_fraction"
        )
    return torch.from_numpy(fitted), torch.from_numpy(held)


class Choice(NamedTuple):
    """The probes of one kind of label after their learning rates were chosen."""

    maps: LinearMaps  # (S, 1, K, D) and (S, 1, K)
    rate: np.ndarray  # (S,) int, into the learning rates
    accuracy: np.ndarray  # (S, R) on the images held back


def choose_rates(maps: LinearMaps, predictions: Tensor, targets: Tensor, learning_rates: Sequence[float]) -> Choice:
    """The rate with the best accuracy on the images held back, for each feature set; the smallest of equals.

    Args:
        maps: the probes of all rates.
        predictions: (m, S, R) on the images held back.
        targets: (m,) their labels.
        learning_rates: R of them, in any order.
    """
    accuracy = (predictions == targets.view(-1, 1, 1)).double().mean(dim=0).numpy()  # (S, R)
    ascending = np.argsort(learning_rates)
    best = ascending[accuracy[:, ascending].argmax(axis=1)]  # (S,)
    sets = torch.arange(len(best))
    chosen = LinearMaps(*(part.cpu()[sets, torch.from_numpy(best)].unsqueeze(1) for part in maps))
    return Choice(chosen, best, accuracy)


# ------------------------------------------------------------------------------------------------
# Rows
# ------------------------------------------------------------------------------------------------


def selection_table(choices: Mapping[str, Choice], learning_rates: Sequence[float]) -> pd.DataFrame:
    """A row for each kind of label, depth, pooling and learning rate: accuracy held back, and whether it was chosen."""
    frames = []
    for kind, choice in choices.items():
        place, rate = (axis.ravel() for axis in np.indices(choice.accuracy.shape))
        columns = {
            "labels": kind,
            **_depth_and_pooling(place),
            "learning_rate": np.array(learning_rates)[rate],
            "value": choice.accuracy.ravel(),
            "chosen": rate == choice.rate[place],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True).astype({"labels": "category"})


def accuracy_rows(
    correct: np.ndarray, names: Sequence[str], split: str, kind: str, choice: Choice, learning_rates: Sequence[float]
) -> pd.DataFrame:
    """A row for each image, depth and pooling, from correct (M, S) in {0, 1} of the images with these ``names``."""
    rows = image_rows(correct, names, split, kind, choice.maps.weight.shape[2])
    rates = np.broadcast_to(np.array(learning_rates)[choice.rate], correct.shape)
    rows.insert(rows.columns.get_loc("value"), "learning_rate", rates.ravel())
    return rows


def image_rows(
    correct: np.ndarray, names: Sequence[str], split: str, kind: str, classes: int, poolings: Sequence[str] = POOLINGS
) -> pd.DataFrame:
    """The rows of any probe of all depths and ``poolings``, from correct (M, S) in {0, 1}."""
    image, place = (axis.ravel() for axis in np.indices(correct.shape))
    columns = {
        "labels": kind,
        "classes": np.int32(classes),
        "split": split,
        "image": np.array(names, dtype=object)[image],
        **_depth_and_pooling(place, poolings),
        "value": correct.ravel().astype(np.float64),
    }
    return pd.DataFrame(columns)


def _depth_and_pooling(place: np.ndarray, poolings: Sequence[str] = POOLINGS) -> dict[str, object]:
    return {
        "depth": (place // len(poolings)).astype(np.int32),
        "pooling": pd.Categorical.from_codes(place % len(poolings), list(poolings)),
    }


def set_names(depth: int) -> list[str]:
    """The feature sets of an encoder of ``depth`` blocks, in the order of its features."""
    return [f"depth {block}, {pooling}" for block in range(depth + 1) for pooling in POOLINGS]


def without_cls(table: pd.DataFrame) -> pd.DataFrame:
    """A table of probes without those of CLS: of an encoder that has none, they were fitted on no features."""
    rows = table[table["pooling"] != "cls"].reset_index(drop=True)
    return rows.assign(pooling=rows["pooling"].cat.remove_unused_categories())
