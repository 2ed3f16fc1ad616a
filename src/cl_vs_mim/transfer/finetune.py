"""Train an encoder further on labels, or one layer on top of it, and ask it about images it has not seen.

    python -m cl_vs_mim.transfer.finetune --config config/demo.yaml --protocol finetuning --model moco_v3 --seed 0 \\
        --encoder results/demo/encoders/moco_v3_seed0.safetensors --data results/demo/data/objects \\
        --runs results/demo/runs --output finetuning.parquet --tuned moco_v3_seed0.safetensors

``--protocol finetuning`` trains everything (``transfer.finetuning`` of the study), ``--protocol augmented_probe`` a
linear layer on the frozen encoder with augmented images (``transfer.augmented_probe``); the protocol ``cached``,
without augmentation, is :mod:`cl_vs_mim.transfer.linear_probe`. The training is that of
:mod:`cl_vs_mim.pretrain.loop`: it logs, stops on signals and goes on as that does.

``--output``  a row per validation image, 1 where the prediction is right; for categories also the held-out objects.
``--tuned``   the fine-tuned encoder, for the same analyses as any other.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.config import Architecture, Study, load_study
from cl_vs_mim.config.transfer import AugmentedProbe, FineTuning
from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.core.tables import row_head, with_columns, with_head, write_table
from cl_vs_mim.data.images import ImageFolderIndex, normalise
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.encoder.model import Encoder, build_encoder
from cl_vs_mim.evaluated import add_subject_arguments, batches, find_encoder, open_encoder, table_head
from cl_vs_mim.pretrain.data import index_training_images, steps_per_epoch
from cl_vs_mim.pretrain.interrupt import add_stop_option, deadline_of, leave_paused
from cl_vs_mim.pretrain.loop import make_fabric, train
from cl_vs_mim.pretrain.sources import make_source
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.pretrain.trainer import Trainer
from cl_vs_mim.transfer.classifiers import FineTuned, Probed
from cl_vs_mim.transfer.linear_probe import Split, read_splits
from cl_vs_mim.transfer.selection import constant_guess

PROTOCOLS = ("finetuning", "augmented_probe")  # keys under transfer

# ------------------------------------------------------------------------------------------------
# The classifier
# ------------------------------------------------------------------------------------------------


def settings_of(study: Study, protocol: str) -> FineTuning | AugmentedProbe:
    """The study's recipe for a protocol.

    Raises:
        UserError: it has none.
    """
    found = None if study.transfer is None else getattr(study.transfer, protocol)
    if found is None:
        raise UserError(f"study {study.study!r} has no transfer.{protocol}; add it to its YAML")
    return found


def with_drop_path(encoder: Encoder, architecture: Architecture, rate: float) -> Encoder:
    """The same weights in an encoder with another stochastic depth, which is no weight but a part of the network."""
    fresh = build_encoder(architecture.spec(rate), seed=0)
    fresh.load_state_dict(encoder.state_dict())
    return fresh


def build_classifier(
    encoder: Encoder, architecture: Architecture, settings: FineTuning | AugmentedProbe, classes: int, seed: int
) -> FineTuned | Probed:
    """The encoder with an untrained linear layer, drawn from ``seed``."""
    with global_randomness(seed, "classifier"):
        if isinstance(settings, AugmentedProbe):
            return Probed(encoder, settings, classes)
        return FineTuned(with_drop_path(encoder, architecture, settings.training.drop_path), settings, classes)


# ------------------------------------------------------------------------------------------------
# Predictions
# ------------------------------------------------------------------------------------------------


def predictions(classifier: FineTuned | Probed, index: ImageFolderIndex, study: Study, workers: int) -> np.ndarray:
    """The class that the classifier predicts for every image, (M,) int64."""
    device = next(classifier.parameters()).device
    classifier.eval()
    size, crop, count = classifier.encoder.spec.image_size, study.analysis.crop_fraction, study.analysis.batch_size

    def predicted() -> Iterator[Tensor]:
        for images in batches(index, np.arange(len(index)), size, crop, count, workers):
            yield classifier.logits(normalise(images.to(device))).argmax(-1).cpu()

    chunks = progress(
        predicted(), total=math.ceil(len(index) / count), desc=f"evaluate {index.root.name}", unit="batch"
    )
    return torch.cat(list(chunks)).numpy()


def prediction_rows(
    classifier: FineTuned | Probed,
    train_split: Split,
    evaluated: list[Split],
    settings: FineTuning | AugmentedProbe,
    study: Study,
    workers: int,
) -> pd.DataFrame:
    """A row per image of every evaluated split."""
    kind = settings.labels
    known = train_split.labels[kind]
    depth = classifier.depth if isinstance(classifier, Probed) else classifier.encoder.spec.depth
    frames = []
    for split in evaluated:
        if kind not in split.labels:
            continue
        predicted = predictions(classifier, split.index, study, workers)
        columns = {
            **{"labels": kind, "classes": np.int32(len(known.classes)), "split": split.name},
            "image": [f"{split.name}/{path}" for path in split.index.paths],
            **{"depth": np.int32(depth), "pooling": settings.pooling},
            "learning_rate": settings.training.base_lr,
            "parameters": np.int64(sum(weight.numel() for weight in classifier.encoder.parameters())),
            "value": (predicted == split.labels[kind].numbers).astype(np.float64),
            "chance": constant_guess(known, split.labels[kind]),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    """Fine-tune or probe one encoder, or go on with it, and write its predictions."""
    deadline = deadline_of(arguments)
    torch.set_num_threads(arguments.threads)
    study = load_study(arguments.config)
    settings = settings_of(study, arguments.protocol)
    if isinstance(settings, AugmentedProbe) and arguments.tuned is not None:
        raise UserError("--tuned: a probe leaves the encoder as it is; leave it out")
    subject = find_encoder(study, arguments.model, arguments.seed)
    architecture = study.architectures[subject.architecture]
    encoder = open_encoder(subject, architecture, arguments.encoder)
    index, data_hash = index_training_images(arguments.data)
    train_split, evaluated = read_splits(arguments.data, [settings.labels])
    labels = train_split.labels[settings.labels]
    fabric = make_fabric(arguments.device, settings.training.precision)
    fabric.launch()
    classifier = build_classifier(encoder, architecture, settings, len(labels.classes), subject.seed)
    resolved = {
        "code": code_digest("cl_vs_mim.pretrain.trainer", "cl_vs_mim.transfer.classifiers"),
        "protocol": arguments.protocol,
        "seed": subject.seed,
        "data_hash": data_hash,
        "encoder": "untrained" if arguments.encoder is None else sha256_file(arguments.encoder),
        "architecture": architecture.model_dump(mode="json", exclude={"label"}),
        "settings": settings.model_dump(mode="json", exclude={"choices"}),
    }
    with RunFolder(arguments.runs, f"{subject.model}_{arguments.protocol}", resolved) as run:
        per_epoch = steps_per_epoch(len(index), settings.training.batch_size)
        trainer = Trainer(classifier, settings.training, architecture.image_size, subject.seed, per_epoch, fabric)
        state = run.load_latest(fabric.device)
        if state is not None:
            trainer.restore(state)
        if trainer.step < trainer.steps:
            workers = study.compute.loader_workers
            images = settings.training.images
            source = make_source(index, labels.numbers, images, trainer.plan(), fabric.device, workers)
            if not train(trainer, source, run, deadline):
                leave_paused(trainer.step, trainer.steps)
        rows = prediction_rows(classifier, train_split, evaluated, settings, study, arguments.threads)
        head = table_head(study, subject, data_hash, fabric.device, {"transfer": settings})
        head |= {"metric": "top1", "protocol": arguments.protocol}
        if arguments.tuned is not None:
            origin = row_head(study=study.study, config_hash=run.digest, data_hash=data_hash, device=fabric.device)
            origin |= {"model": subject.model, "seed": subject.seed, "stage": "finetuned", "method": subject.method}
            tuned = classifier.encoder if classifier.ema is None else classifier.mean_encoder
            save_encoder(arguments.tuned, tuned, origin)
        if arguments.log_table is not None:
            log = run.read_log().assign(model=subject.model, seed=subject.seed, protocol=arguments.protocol)
            log_head = row_head(study=study.study, config_hash=run.digest, data_hash=data_hash, device=fabric.device)
            write_table(arguments.log_table, with_head(log, log_head))
        write_table(arguments.output, with_columns(rows, head))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cl_vs_mim.transfer.finetune", description=main.__doc__)
    add_subject_arguments(parser)
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="where run folders live; keep it between calls")
    parser.add_argument("--output", type=Path, required=True, help="table of right and wrong predictions")
    parser.add_argument("--tuned", type=Path, help="….safetensors of the fine-tuned encoder")
    parser.add_argument("--log-table", type=Path, help="copy of the training log as a tidy table")
    add_stop_option(parser)
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
