"""Training a network on the labels of single-object images, as the augmented probe and fine-tuning do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cl_vs_mim.pretrain.objective import Objective
from cl_vs_mim.pretrain.sources import make_source
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.splits import read_splits

_Network = TypeVar("_Network", bound=Objective)


def train_on_labels(job: Job, build: Callable[[int], _Network]) -> _Network:
    """The network after training on the labels that the task's settings name, or after going on with it.

    Args:
        job: a job whose settings have ``labels`` and ``training``.
        build: makes the network for this many classes, with its initial weights.

    Raises:
        UserError: images or labels are missing, too few for a batch, or the loss is not finite.
    """
    kind, training = job.settings.labels, job.settings.training
    images, _ = read_splits(job.data, [kind])
    labels = images.labels[kind]
    network = build(len(labels.classes))
    workers = job.study.compute.loader_workers
    job.fit(
        network,
        training,
        image_size=job.architecture.image_size,
        count=len(images.index),
        source=lambda trainer: make_source(
            images.index, labels.numbers, training.images, trainer.plan(), job.device, workers
        ),
    )
    return network
