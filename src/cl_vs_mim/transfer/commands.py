"""Commands of the transfer tasks, one verb each, and ``transfer`` for any task by name.

Every verb does its task for one encoder and writes ``<tables>/<table>/<run>.parquet``. Those that train keep their
state below ``--runs``: a killed run goes on where it was when the same command is given again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from cl_vs_mim.config import Study
from cl_vs_mim.config.tasks import Task, code_of, decides
from cl_vs_mim.config.transfer import TASKS
from cl_vs_mim.core.commands import Command
from cl_vs_mim.core.options import Config, Device, EncoderFile, Objects, Run, Runs, StopAfter, Tables, Threads

DECIDES_NO_RESULT = True


def _run(name: str, **options: Any) -> None:
    from cl_vs_mim.transfer.run import run_task  # torch takes seconds to import

    run_task(TASKS[name], **options)


# ------------------------------------------------------------------------------------------------
# Classification
# ------------------------------------------------------------------------------------------------


def linear_probe(
    *,
    config: Config,
    run: Run,
    data: Objects,
    tables: Tables,
    probes: Path,
    encoder: EncoderFile = None,
    cache: Path | None = None,
    memory_gib: float = 4.0,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Fit linear probes on every depth of one encoder, on features without augmentation (Figure 10).

    Args:
        probes: where the chosen probes go, .safetensors.
        cache: folder for features that take more memory than is allowed.
        memory_gib: what the features of a split may take of the memory, GiB.

    Example:
        cl-vs-mim linear-probe --config config/demo.yaml --run moco_v3_seed0 --data results/demo/data/objects
          --encoder results/demo/encoders/moco_v3_seed0.safetensors --tables results/demo/tables
          --probes results/demo/probes/moco_v3_seed0.safetensors
    """
    _run("linear_probe", **locals())


def augmented_probe(
    *,
    config: Config,
    run: Run,
    data: Objects,
    runs: Runs,
    tables: Tables,
    encoder: EncoderFile = None,
    device: Device = "auto",
    threads: Threads = 2,
    stop_after_minutes: StopAfter = None,
) -> None:
    """Train one linear layer on a frozen encoder and augmented images, as the paper probes.

    Example:
        cl-vs-mim augmented-probe --config config/demo.yaml --run moco_v3_seed0 --data results/demo/data/objects
          --encoder results/demo/encoders/moco_v3_seed0.safetensors --runs results/demo/runs
          --tables results/demo/tables
    """
    _run("augmented_probe", **locals())


def finetune(
    *,
    config: Config,
    run: Run,
    data: Objects,
    runs: Runs,
    tables: Tables,
    encoder: EncoderFile = None,
    tuned: Path | None = None,
    log_table: Path | None = None,
    device: Device = "auto",
    threads: Threads = 2,
    stop_after_minutes: StopAfter = None,
) -> None:
    """Train all weights of one encoder on labels, lower layers more slowly.

    Args:
        tuned: where the fine-tuned encoder goes, .safetensors, for the same analyses as any other.
        log_table: where a copy of the training's log goes, .csv or .parquet.

    Example:
        cl-vs-mim finetune --config config/demo.yaml --run moco_v3_seed0 --data results/demo/data/objects
          --encoder results/demo/encoders/moco_v3_seed0.safetensors --runs results/demo/runs
          --tables results/demo/tables
    """
    _run("finetuning", **locals())


def robustness(
    *,
    config: Config,
    run: Run,
    data: Objects,
    cues: Path,
    probes: Path,
    tables: Tables,
    encoder: EncoderFile = None,
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Read cue-conflict and noisy images with one encoder and its linear probe (Figure 9).

    Args:
        cues: folder of the cue-conflict images; in a study of folders on the disk the one that holds stylized/.
        probes: the encoder's probes, as linear-probe writes them.

    Example:
        cl-vs-mim robustness --config config/demo.yaml --run moco_v3_seed0 --data results/demo/data/objects
          --encoder results/demo/encoders/moco_v3_seed0.safetensors
          --probes results/demo/probes/moco_v3_seed0.safetensors
          --cues results/demo/data/cue_conflict --tables results/demo/tables
    """
    _run("robustness", **locals())


# ------------------------------------------------------------------------------------------------
# Dense prediction
# ------------------------------------------------------------------------------------------------


def detection(
    *,
    config: Config,
    run: Run,
    data: Path,
    runs: Runs,
    tables: Tables,
    encoder: EncoderFile = None,
    picture: Path | None = None,
    device: Device = "auto",
    threads: Threads = 2,
    stop_after_minutes: StopAfter = None,
) -> None:
    """Train Mask R-CNN on one encoder; measure average precision of boxes and masks.

    Args:
        data: folder in COCO's layout.
        picture: where true and predicted objects on validation images are drawn, .png.

    Example:
        cl-vs-mim detection --config config/quick.yaml --run moco_v3_seed0
          --data results/quick/data/scenes/coco --encoder results/quick/encoders/moco_v3_seed0.safetensors
          --runs results/quick/runs --tables results/quick/tables
    """
    _run("detection", **locals())


def segmentation(
    *,
    config: Config,
    run: Run,
    data: Path,
    runs: Runs,
    tables: Tables,
    encoder: EncoderFile = None,
    picture: Path | None = None,
    device: Device = "auto",
    threads: Threads = 2,
    stop_after_minutes: StopAfter = None,
) -> None:
    """Train UPerNet on one encoder; measure mean intersection over union.

    Args:
        data: folder in ADE20K's layout.
        picture: where labels and predictions on validation images are drawn, .png.

    Example:
        cl-vs-mim segmentation --config config/quick.yaml --run moco_v3_seed0
          --data results/quick/data/scenes/ade20k --encoder results/quick/encoders/moco_v3_seed0.safetensors
          --runs results/quick/runs --tables results/quick/tables
    """
    _run("segmentation", **locals())


# ------------------------------------------------------------------------------------------------
# Any task
# ------------------------------------------------------------------------------------------------


def transfer(
    *,
    task: str,
    config: Config,
    run: Run,
    data: Path,
    tables: Tables,
    runs: Path | None = None,
    encoder: EncoderFile = None,
    device: Device = "auto",
    threads: Threads = 2,
    stop_after_minutes: StopAfter = None,
) -> None:
    """Do a transfer task by its name, one of your own for example.

    Args:
        task: the task's name.
        data: folder of the task's images.
        runs: where run folders live; needed by tasks that train, and to be kept between calls.

    Example:
        cl-vs-mim transfer --task finetuning --config config/demo.yaml --run moco_v3_seed0
          --data results/demo/data/objects
          --encoder results/demo/encoders/moco_v3_seed0.safetensors --runs results/demo/runs
          --tables results/demo/tables
    """
    _run(task, **{name: value for name, value in locals().items() if name != "task"})


# ------------------------------------------------------------------------------------------------
# All
# ------------------------------------------------------------------------------------------------


def task_command(task: Task, run: Any = transfer) -> Command:
    """The command of a task; its ``decides`` and ``code`` are the task's."""
    return Command(
        name=task.verb,
        run=run,
        decides=partial(decides, task),
        code=partial(code_of, task),
    )


def _named(study: Study, name: str) -> tuple[Task, str]:
    """A task and an encoder from ``<task>/<run>``, what the command ``transfer`` is run for."""
    task, _, run = name.partition("/")
    return TASKS.of(study)[task], run


def _decides_named(study: Study, name: str) -> dict[str, Any]:
    task, run = _named(study, name)
    return decides(task, study, run)


def _code_named(study: Study, name: str) -> tuple[str, ...]:
    task, run = _named(study, name)
    return code_of(task, study, run)


COMMANDS = (
    *(
        task_command(TASKS[name], run)
        for name, run in {
            "linear_probe": linear_probe,
            "augmented_probe": augmented_probe,
            "finetuning": finetune,
            "robustness": robustness,
            "detection": detection,
            "segmentation": segmentation,
        }.items()
    ),
    Command("transfer", transfer, _decides_named, _code_named),
)
