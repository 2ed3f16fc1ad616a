"""One training from an empty run folder, or a half-done one, to its last step: the scaffold of every training.

:func:`train_run` serves pre-training, fine-tuning and segmentation alike. :func:`pretrain` is the first of them: one
model of a study with one seed, exported as an encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from cl_vs_mim.config import Study, Training
from cl_vs_mim.config.encoders import decides_encoder, decides_weights, model_and_seed
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.tables import row_head, with_head, write_table
from cl_vs_mim.data.identity import MANIFEST, content_hash, data_hash
from cl_vs_mim.data.images import ImageFolderIndex, index_image_folder
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, save_encoder
from cl_vs_mim.pretrain.closure import training_code
from cl_vs_mim.pretrain.data import steps_per_epoch
from cl_vs_mim.pretrain.interrupt import leave_paused
from cl_vs_mim.pretrain.loop import train
from cl_vs_mim.pretrain.memory import keep_freed_memory
from cl_vs_mim.pretrain.objective import Objective
from cl_vs_mim.pretrain.precision import make_fabric, precision_of, settle
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.pretrain.sources import Source, make_source
from cl_vs_mim.pretrain.state import RunFolder, resolve_run
from cl_vs_mim.pretrain.trainer import Trainer

# ------------------------------------------------------------------------------------------------
# Any training
# ------------------------------------------------------------------------------------------------


@contextmanager
def train_run(
    runs: Path,
    name: str,
    resolved: Mapping[str, Any],
    objective: Objective,
    training: Training,
    *,
    image_size: int,
    images: int,
    fabric: Fabric,
    source: Callable[[Trainer], Source],
    deadline: float,
    measured: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Trainer, RunFolder]]:
    """Train to the end, or go on with what a killed process left, and hold the run folder while results are written.

    A run that reached its end before is opened and not trained; then the images are not read.

    Args:
        runs: folder of all run folders.
        name: the run's name, such as ``moco_v3`` or ``moco_v3_finetuning``; the seed and a digest follow it.
        resolved: everything that decides the weights, with the entry ``seed`` (see
            :func:`cl_vs_mim.pretrain.state.resolve_run`).
        objective: the objective with its initial weights; trained in place.
        training: the training settings.
        image_size: side of views without a size of their own, px.
        images: number of training images.
        fabric: launched.
        source: makes the batches for a trainer.
        deadline: when to stop, on the clock of ``time.monotonic``.
        measured: whether the precision ``auto`` is decided on a CPU by measurement (see
            :func:`cl_vs_mim.pretrain.precision.settle`); else it is float32 there. The trainer has the fabric that was
            taken.
        provenance: what snapshots say of themselves.

    Yields:
        The trainer at its last step, and the run folder. In processes other than the first the body has nothing to
        write: ask ``fabric.is_global_zero``.

    Raises:
        UserError: another process holds the folder, the batch does not fit, or the loss is not finite.
        SystemExit: with status 75, if it was stopped before the end; the state is saved.
    """
    first = fabric.is_global_zero
    with RunFolder(runs, name, resolved, held=first) as run:
        fabric.barrier()
        per_epoch = steps_per_epoch(images, training.batch_size)
        if measured:
            fabric = settle(fabric, run, objective, training, image_size)
        trainer = Trainer(objective, training, image_size, resolved["seed"], per_epoch, fabric)
        state = run.load_latest(fabric.device)
        if state is not None:
            trainer.restore(state)
        if trainer.step < trainer.steps and not train(trainer, source(trainer), run, deadline, provenance):
            leave_paused(trainer.step, trainer.steps, quiet=not first)
        yield trainer, run


# ------------------------------------------------------------------------------------------------
# Pre-training
# ------------------------------------------------------------------------------------------------


def pretrain(
    study: Study,
    run: str,
    data: Path,
    runs: Path,
    output: Path,
    *,
    log_table: Path | None,
    needs: Path | None,
    fabric: Fabric,
    deadline: float,
) -> None:
    """Train one model with one seed, or go on with it, and export its encoder.

    Args:
        study: the study with the model.
        run: stem of the encoder, such as ``moco_v3_seed0``.
        data: folder of the images, with ``train/`` and ``manifest.json``.
        runs: folder of all run folders.
        output: the encoder's file.
        log_table: where a copy of the training log goes, if anywhere.
        needs: file of the model that the objective needs (BEiT's tokenizer).
        fabric: launched.
        deadline: when to stop, on the clock of ``time.monotonic``.

    Raises:
        UserError: the study has no such model, ``needs`` is missing or superfluous, the images are not those that the
            model is for, or what :func:`train_run` raises.
        SystemExit: with status 75, if it was stopped before the end.
    """
    name, seed = model_and_seed(study, run)
    if name not in study.models:
        raise UserError(f"{run} is an untrained encoder, drawn from its seed: there is nothing to train")
    model = study.models[name]
    architecture, (config, training) = study.architectures[model.architecture], model.recipe()
    index, images_hash = index_training_images(data)
    wanted = config.wanted_classes() or len(index.classes)
    if wanted != len(index.classes):
        raise UserError(
            f"models.{name}.objective.classes is {wanted}, but {index.root} has {len(index.classes)} folders"
        )
    check_needed(needs, name, study)
    decided = decides_encoder(study, run)
    code = training_code(config.method, architecture.family)
    resolved = resolve_run(decided, code, images_hash, {"needs": needs})
    objective = build_objective(model, architecture, seed)
    if needs is not None:
        attach_needed(objective, needs)

    def source(trainer: Trainer) -> Source:
        workers = study.compute.loader_workers
        return make_source(index, index.labels, training.images, trainer.plan(), fabric.device, workers)

    if fabric.device.type == "cpu":
        keep_freed_memory()
    head = row_head(study=study.study, config_hash=sha256_json(decided), data_hash=images_hash, device=fabric.device)
    names = {"model": name, "method": config.method, "seed": seed}
    scaffold = train_run(
        runs,
        name,
        resolved,
        objective,
        training,
        image_size=architecture.image_size,
        images=len(index),
        fabric=fabric,
        source=source,
        deadline=deadline,
        measured=True,
        provenance={**names, **head},
    )
    with scaffold as (trainer, folder):
        if not fabric.is_global_zero:
            return
        names["precision"] = precision_of(trainer.fabric)
        if log_table is not None:
            series = {"label": model.label, "paradigm": model.paradigm, "architecture": model.architecture}
            log = folder.read_log().assign(**names, **series, **{"lambda": study.mixing(name)})
            write_table(log_table, with_head(log, head))
        images_seen = trainer.steps * training.batch_size
        made = {"steps": trainer.steps, "images": images_seen, "run_folder": folder.path.name}
        metadata = {**names, **made, "recipe": decides_weights(study, name), **head}
        # last: the declared output
        save_encoder(output, objective.encoder, metadata, decoder=objective.export_decoder())


def index_training_images(folder: Path) -> tuple[ImageFolderIndex, str]:
    """The ImageFolder ``folder/train`` and the hash of its content.

    A data set without a manifest, such as ImageNet, is identified by the names and sizes of its training images.

    Raises:
        UserError: no ImageFolder there, or a damaged manifest.
    """
    folder = Path(folder)
    index = index_image_folder(folder / "train")
    if (folder / MANIFEST).exists():
        return index, data_hash(folder)
    return index, content_hash(index.root, index.paths)


def check_needed(path: Path | None, model: str, study: Study) -> None:
    """Refuse a missing or superfluous file of the model that the objective needs.

    Raises:
        UserError: it is needed and not given, given and not needed, or not there.
    """
    objective, _ = study.models[model].recipe()
    needed = objective.needs() or objective.given()
    if (needed is not None) != (path is not None):
        what = f"needs {needed}: give its file with" if needed else "needs no other model: leave out"
        raise UserError(f"{model} {what} --needs")
    if path is not None and not path.is_file():
        raise UserError(f"{path} does not exist, which {model} needs; train it first, as the model of that name")


def attach_needed(objective: Objective, path: Path) -> None:
    """Read the model that the objective needs, and hand it over.

    Raises:
        UserError: the file is none of ours, or not of the kind that the objective needs.
    """
    encoder = load_encoder(path, "native")
    decoder = load_decoder(path, "native", encoder) if objective.Config.needs_decoder else None
    try:
        objective.attach(encoder, decoder)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def start(device: str, training: Training, devices: int, nodes: int, threads: int | None) -> Fabric:
    """Set the number of CPU threads, and launch the processes that train together.

    Raises:
        UserError: ``device`` is not available.
    """
    if threads:
        torch.set_num_threads(threads)
    fabric = make_fabric(device, training.precision, devices, nodes)
    fabric.launch()
    return fabric
