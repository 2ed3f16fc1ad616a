"""One segmenter from an encoder to its table: what the command does once mmseg is known to be there."""

from __future__ import annotations

import argparse

import torch

from cl_vs_mim.config import Architecture, load_study
from cl_vs_mim.config.segmentation import Segmentation
from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.core.tables import with_columns, write_table
from cl_vs_mim.data.ade20k import TRAINING, VALIDATION, read_split
from cl_vs_mim.evaluated import data_hash, find_encoder, open_encoder, table_head
from cl_vs_mim.pretrain.data import steps_per_epoch
from cl_vs_mim.pretrain.interrupt import deadline_of, leave_paused
from cl_vs_mim.pretrain.loop import make_fabric, train
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.pretrain.trainer import Trainer
from cl_vs_mim.transfer.finetune import with_drop_path
from cl_vs_mim.transfer.segmentation.draw import draw_predictions
from cl_vs_mim.transfer.segmentation.evaluate import evaluate
from cl_vs_mim.transfer.segmentation.network import Segmenter
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


def main(arguments: argparse.Namespace) -> None:
    """Train one segmenter, or go on with it, measure it, and draw what it says."""
    deadline = deadline_of(arguments)
    torch.set_num_threads(arguments.threads)
    study = load_study(arguments.config)
    settings = None if study.transfer is None else study.transfer.segmentation
    if settings is None:
        raise UserError(f"study {study.study!r} has no transfer.segmentation; add it to its YAML")
    subject = find_encoder(study, arguments.model, arguments.seed)
    architecture = study.architectures[subject.architecture]
    check_patches(settings, architecture, subject.architecture)
    encoder = open_encoder(subject, architecture, arguments.encoder)
    splits = {name: read_split(arguments.data, name, arguments.threads) for name in (TRAINING, VALIDATION)}
    content = data_hash(arguments.data.parent)
    fabric = make_fabric(arguments.device, settings.training.precision)
    fabric.launch()
    training = splits[TRAINING]
    with global_randomness(subject.seed, "segmenter"):
        network = Segmenter(
            with_drop_path(encoder, architecture, settings.training.drop_path), settings, len(training.classes)
        )
    resolved = {
        "code": code_digest("cl_vs_mim.pretrain.trainer", "cl_vs_mim.transfer.segmentation.network"),
        "task": "segmentation",
        "seed": subject.seed,
        "data_hash": content,
        "encoder": "untrained" if arguments.encoder is None else sha256_file(arguments.encoder),
        "architecture": architecture.model_dump(mode="json", exclude={"label"}),
        "settings": settings.model_dump(mode="json", exclude={"choices", "draw_images"}),
    }
    with RunFolder(arguments.runs, f"{subject.model}_segmentation", resolved) as run:
        per_epoch = steps_per_epoch(len(training), settings.training.batch_size)
        trainer = Trainer(network, settings.training, settings.image_size, subject.seed, per_epoch, fabric)
        state = run.load_latest(fabric.device)
        if state is not None:
            trainer.restore(state)
        if trainer.step < trainer.steps:
            workers = study.compute.loader_workers
            source = SceneSource(training, settings, subject.seed, architecture.image_size, fabric.device, workers)
            if not train(trainer, source, run, deadline):
                leave_paused(trainer.step, trainer.steps)
        network.eval()
        rows = evaluate(network.classify, splits[VALIDATION], fabric.device)
        if arguments.picture is not None:
            title = f"{subject.label}, seed {subject.seed}: UPerNet after {trainer.steps} steps, study {study.study}"
            count = min(settings.draw_images, len(splits[VALIDATION]))
            draw_predictions(network.classify, splits[VALIDATION], count, fabric.device, title, arguments.picture)
        head = table_head(study, subject, content, fabric.device, {"transfer": settings})
        write_table(arguments.output, with_columns(rows, head))
