"""One task on one encoder, whatever the task: train or go on, evaluate, and write the tables with their heads."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from cl_vs_mim.config import Training, load_study
from cl_vs_mim.config.encoders import model_and_seed
from cl_vs_mim.config.tasks import Task, decides, decides_training_of, need_settings, training_code_of
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.registry import load
from cl_vs_mim.core.tables import with_columns, write_table
from cl_vs_mim.data.identity import content_hash, data_hash
from cl_vs_mim.evaluated import choose_device, find_encoder, open_encoder, table_head
from cl_vs_mim.pretrain.interrupt import deadline_after
from cl_vs_mim.pretrain.objective import Objective
from cl_vs_mim.pretrain.run import start, train_run
from cl_vs_mim.pretrain.sources import Source
from cl_vs_mim.pretrain.state import RunFolder, resolve_run
from cl_vs_mim.pretrain.trainer import Trainer
from cl_vs_mim.transfer.job import Job

# Said when a package is imported, of parts that no task uses: compiled operators, and how a package finds its files.
_SAID_AT_IMPORT = ("Fail to import ``MultiScaleDeformableAttention``", "pkg_resources is deprecated")


def run_task(
    task: Task,
    *,
    config: Path,
    run: str,
    encoder: Path | None,
    data: Path,
    tables: Path,
    runs: Path | None = None,
    device: str = "auto",
    threads: int = 2,
    stop_after_minutes: float | None = None,
    **options: Any,
) -> None:
    """Do a task for one encoder and write ``<tables>/<table>/<run>.parquet``, the one named last at the very end.

    Args:
        task: the task.
        config: the study's YAML.
        run: stem of the encoder, such as ``moco_v3_seed0`` or ``untrained_vit_seed0``.
        encoder: file of a trained encoder; None for an untrained one.
        data: folder of the images.
        tables: folder of all tables.
        runs: where run folders live; needed by tasks that train.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads, for decoding and for the encoder.
        stop_after_minutes: save the state of the training and leave after this long; None: never.
        options: further options of the task.

    Raises:
        UserError: settings, packages, data or encoder are missing or do not fit.
    """
    deadline = deadline_after(stop_after_minutes)
    study = load_study(config)
    settings = need_settings(task, study)
    model, seed = model_and_seed(study, run)
    train = None if task.train is None else task_module(task, task.train)
    evaluate = task_module(task, task.evaluate)
    if train is not None and runs is None:
        raise UserError(f"{task.name} trains; say with --runs where its state may live, and keep that folder")
    torch.set_num_threads(threads)
    training = getattr(settings, "training", None)
    fabric = start(device, training, 1, 1, threads) if isinstance(training, Training) else None
    evaluated = find_encoder(study, model, seed)
    architecture = study.architectures[evaluated.architecture]
    job = Job(
        task=task,
        study=study,
        settings=settings,
        evaluated=evaluated,
        architecture=architecture,
        encoder=open_encoder(evaluated, architecture, encoder),
        encoder_file=encoder,
        options=options,
        data=data,
        data_hash=images_hash(task, data),
        runs=runs,
        fabric=fabric,
        threads=threads,
        deadline=deadline,
        device=choose_device(device) if fabric is None else fabric.device,
    )
    config_hash = sha256_json(decides(task, study, run))
    head = table_head(study, evaluated, job.data_hash, job.device, config_hash=config_hash)
    versions = (f"; {_version(*names)}" for names in task.packages.items())
    head["packages"] = "".join((str(head["packages"]), *versions))
    with job.open:
        trained = None if train is None else train.train(job)
        for table, rows in evaluate.evaluate(job, trained).items():
            own = {name: value for name, value in head.items() if name not in rows}  # rows may know some better
            write_table(tables / table / f"{run}.parquet", with_columns(rows, own))


# ------------------------------------------------------------------------------------------------
# Training
# ------------------------------------------------------------------------------------------------


def resolve(job: Job) -> dict[str, Any]:
    """All that decides what is trained, as plain data: settings, code, images and the encoder's file.

    Raises:
        UserError: the encoder's file is missing.
    """
    decided = {
        "task": job.task.name,
        "seed": job.evaluated.seed,
        "architecture": job.architecture.model_dump(mode="json", exclude={"label"}),
        "settings": decides_training_of(job.task, job.study),
    }
    code = training_code_of(job.task, job.architecture.family)
    return resolve_run(decided, code, job.data_hash, {"encoder": job.encoder_file})


def fit(
    job: Job,
    network: Objective,
    training: Training,
    *,
    image_size: int,
    count: int,
    source: Callable[[Trainer], Source],
) -> int:
    """See :meth:`cl_vs_mim.transfer.job.Job.fit`."""
    assert job.fabric is not None and job.runs is not None, f"{job.task.name} is a task without training"
    scaffold = train_run(
        job.runs,
        _run_name(job),
        resolve(job),
        network,
        training,
        image_size=image_size,
        images=count,
        fabric=job.fabric,
        source=source,
        deadline=job.deadline,
    )
    trainer, job.folder = job.open.enter_context(scaffold)
    return trainer.steps


def hold(job: Job) -> RunFolder:
    """See :meth:`cl_vs_mim.transfer.job.Job.hold`."""
    assert job.runs is not None, f"{job.task.name} is a task without training"
    job.folder = job.open.enter_context(RunFolder(job.runs, _run_name(job), resolve(job)))
    return job.folder


def _run_name(job: Job) -> str:
    return f"{job.task.name}_{job.evaluated.model}"


# ------------------------------------------------------------------------------------------------
# What a task needs
# ------------------------------------------------------------------------------------------------


def task_module(task: Task, name: str) -> ModuleType:
    """Import a module of a task.

    Raises:
        UserError: a package that the task needs is not installed.
    """
    if missing := [package for package in task.packages if find_spec(package) is None]:
        raise UserError(f"{' and '.join(missing)} not installed; {task.name} needs {task.extra or 'them'}")
    with warnings.catch_warnings():
        for message in _SAID_AT_IMPORT:
            warnings.filterwarnings("ignore", message=message)
        return load(name)


def _version(module: str, package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:  # detectron2, unpacked from a wheel of another Python
        return f"{package} {getattr(import_module(module), '__version__', 'not installed as such')}"


def images_hash(task: Task, data: Path) -> str:
    """What stands for the content of a task's images: the hash in the manifest, else that of names and sizes of files.

    Raises:
        UserError: the manifest of the data set is damaged, or belies its files.
    """
    folder = data.parent if task.part else data
    return data_hash(folder) if (folder / "manifest.json").is_file() else content_hash(data)
