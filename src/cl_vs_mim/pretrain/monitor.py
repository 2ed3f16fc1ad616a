"""What is watched while an encoder trains: collapse of features, collapse of attention, and the log as it grows."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.metrics.attention import normalized_mutual_information

WATCHED = 64  # training images whose attention is looked at after every epoch: the first ones


@torch.no_grad()
def feature_std(features: Tensor) -> float:
    """Collapse monitor (SimSiam's, arXiv 2011.10566 section 4.1): (B, D) -> sqrt(D) * mean standard deviation.

    Features are L2-normalised, the standard deviation is over the batch and averaged over channels. 1: directions
    are spread evenly over the sphere; 0: all images have the same features. A common offset, which the final
    LayerNorm of an encoder may leave, lowers it without harm; a fall towards 0 in training is a collapse.
    """
    return float(F.normalize(features.float(), dim=1).std(dim=0).mean() * features.shape[1] ** 0.5)


@torch.no_grad()
def last_block_nmi(encoder: Encoder, images: Tensor) -> float:
    """NMI of the last block's attention (Figure 4), mean over heads and over (B, 3, S, S) uint8 images.

    A fall to 0 is a collapse of attention: all queries look alike.
    """
    for trace in encoder.trace(encoder.embed(normalise(images))):
        attention = trace.attention
    return float(normalized_mutual_information(attention).mean())


class EventLog:
    """The lines of the log as TensorBoard events beside it, where TensorBoard is installed; otherwise nothing.

    ``tensorboard --logdir results/demo/runs`` shows all runs while they train.
    """

    def __init__(self, folder: Path, first_step: int, wanted: bool = True) -> None:
        self._writer = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the package trains without it
            return
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def __enter__(self) -> EventLog:
        self._hook = threading.excepthook
        threading.excepthook = self._in_a_thread
        return self

    def _in_a_thread(self, fault: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread. Its error is raised again by the next call, where it becomes one line."""
        if not issubclass(fault.exc_type, OSError):
            self._hook(fault)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            threading.excepthook = self._hook

    def add(self, step: int, line: Mapping[str, float | None]) -> None:
        """The line that the log has for a step; empty values are left out."""
        if self._writer is None:
            return
        for name, value in line.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, step)
