"""A segmenter made of one encoder, trained."""

from __future__ import annotations

from cl_vs_mim.config import Architecture
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.data.ade20k import TRAINING, read_split
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.layers import with_drop_path
from cl_vs_mim.transfer.segmentation.network import Segmenter
from cl_vs_mim.transfer.segmentation.settings import Segmentation
from cl_vs_mim.transfer.segmentation.source import SceneSource


def check_patches(settings: Segmentation, architecture: Architecture, name: str) -> None:
    """Crops are whole patches.

    Raises:
        UserError: they are not.
    """
    if settings.image_size % architecture.patch_size:
        raise UserError(
            f"transfer.segmentation.image_size {settings.image_size} is not a multiple of the "
            f"{architecture.patch_size} px patches of {name!r}; choose another size"
        )


def train(job: Job) -> Segmenter:
    """The segmenter after training.

    Raises:
        UserError: the crops are not whole patches, an image or label is damaged, or the loss is not finite.
    """
    settings: Segmentation = job.settings
    seed, architecture = job.evaluated.seed, job.architecture
    check_patches(settings, architecture, job.evaluated.architecture)
    split = read_split(job.data, TRAINING, job.threads)
    with global_randomness(seed, "segmenter"):
        encoder = with_drop_path(job.encoder, architecture, settings.training.drop_path)
        network = Segmenter(encoder, settings, len(split.classes))
    workers = job.study.compute.loader_workers
    network.steps = job.fit(
        network,
        settings.training,
        image_size=settings.image_size,
        count=len(split),
        source=lambda _: SceneSource(split, settings, seed, architecture.image_size, job.device, workers),
    )
    return network
