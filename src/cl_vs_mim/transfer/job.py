"""What the modules of a task are given: one encoder, its images, the settings, and how to train.

The closure of a task's code does not follow this module: it carries values, and what it calls to train is the business
of :mod:`cl_vs_mim.transfer.run`, which is in the closure of every task's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    from cl_vs_mim.config import Architecture, Study, Training
    from cl_vs_mim.config.tasks import Task
    from cl_vs_mim.encoder.model import Encoder
    from cl_vs_mim.evaluated import EvaluatedEncoder
    from cl_vs_mim.pretrain.objective import Objective
    from cl_vs_mim.pretrain.sources import Source
    from cl_vs_mim.pretrain.state import RunFolder
    from cl_vs_mim.pretrain.trainer import Trainer

DECIDES_NO_RESULT = True


@dataclass
class Job:
    """One task on one encoder.

    Attributes:
        task: the task.
        study: the study that it is done for.
        settings: the study's settings of the task.
        evaluated: the encoder's columns in every table.
        architecture: the encoder's.
        encoder: in evaluation mode, on the CPU; a task may change it.
        data: folder of the images, the task's part of its data set.
        data_hash: hash of the data set's content.
        device: where to compute.
        threads: CPU threads, also for decoding.
        deadline: when to stop training, on the clock of ``time.monotonic``.
        options: further options of the command, by name; paths that were not asked for are None.
        encoder_file: the trained encoder's file; None for an untrained one.
        runs: folder of all run folders; None for a task without training.
        fabric: devices and precision of a training with :meth:`fit`; None where the settings have no ``training``.
        folder: run folder of the training, once :meth:`fit` or :meth:`hold` was called, until the tables are written.
        open: what is held until then.
    """

    task: Task
    study: Study
    settings: Any
    evaluated: EvaluatedEncoder
    architecture: Architecture
    encoder: Encoder
    data: Path
    data_hash: str
    device: torch.device
    threads: int
    deadline: float
    options: Mapping[str, Any] = field(default_factory=dict)
    encoder_file: Path | None = None
    runs: Path | None = None
    fabric: Fabric | None = None
    folder: RunFolder | None = None
    open: ExitStack = field(default_factory=ExitStack)

    @property
    def held(self) -> RunFolder:
        """:attr:`folder`, of a task that has called :meth:`fit` or :meth:`hold`."""
        assert self.folder is not None, f"{self.task.name} has not trained anything"
        return self.folder

    def fit(
        self,
        network: Objective,
        training: Training,
        *,
        image_size: int,
        count: int,
        source: Callable[[Trainer], Source],
    ) -> int:
        """Train ``network`` by the loop of pre-training, in a run folder, or go on with it; returns its steps.

        Leaves the process, with the state saved, when the deadline comes first.

        Args:
            network: what is trained, its weights drawn; changed in place.
            training: the section ``training`` of the settings.
            image_size: side of the views, px.
            count: images of the training set.
            source: makes the batches, given the trainer; not called where nothing is left to train.

        Raises:
            UserError: the images do not fill a batch, or the loss is not finite.
        """
        from cl_vs_mim.transfer.run import fit

        return fit(self, network, training, image_size=image_size, count=count, source=source)

    def hold(self) -> RunFolder:
        """Open the run folder, for a task with a loop of its own.

        Raises:
            UserError: another process holds it.
        """
        from cl_vs_mim.transfer.run import hold

        return hold(self)
