"""Which arithmetic a run uses: the device, the precision, and what ``auto`` means on this CPU.

Some processors multiply in bfloat16 several times as fast as in float32, others slower. So a CPU is asked: a few steps
of the real objective in each precision, before the training and apart from it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import suppress

import torch
from lightning_fabric import Fabric

from cl_vs_mim.config import Training
from cl_vs_mim.core.errors import UserError, warn
from cl_vs_mim.core.files import write_json
from cl_vs_mim.core.randomness import generator_for
from cl_vs_mim.core.untrusted import read_json
from cl_vs_mim.pretrain.objective import Objective
from cl_vs_mim.pretrain.sources import MemorySource
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.pretrain.trainer import Trainer

EXACT, MIXED = "32-true", "bf16-mixed"
_STEPS = 3  # timed in each precision, in turns; the fastest of each counts
_IMAGES = 64  # of a timed batch at most: larger ones have the same ratio
_GAIN = 1.2  # bfloat16 is taken beyond this: less is not worth its three digits, nor safe from noise in the clock


def make_fabric(device: str, precision: str, devices: int = 1, nodes: int = 1) -> Fabric:
    """Lightning Fabric; ``auto`` takes GPUs if there are any, and bf16 with them.

    With several devices it starts the other processes itself, or joins those that torchrun or SLURM started.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA GPU is available; use --device cpu or auto")
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = MIXED if accelerator == "cuda" else EXACT
    strategy = "ddp" if devices * nodes > 1 else "auto"
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)


def precision_of(fabric: Fabric) -> str:
    """``32-true`` or ``bf16-mixed``."""
    return fabric.strategy.precision.precision


def is_open(fabric: Fabric, precision: str) -> bool:
    """Whether ``auto`` still has to be decided by :func:`measure_precisions`.

    Not with several processes, which might disagree.
    """
    return precision == "auto" and fabric.device.type == "cpu" and fabric.world_size == 1


def settle(fabric: Fabric, run: RunFolder, objective: Objective, training: Training, image_size: int) -> Fabric:
    """The fabric itself, or where ``auto`` is open one of the precision that was faster when this run began.

    Args:
        fabric: as :func:`make_fabric` made it for ``training.precision``.
        run: held; what is measured is kept in it, so that a run goes on in the precision it began with.
        objective: the objective with its initial weights, on the CPU.
        training: the run's training settings.
        image_size: px.
    """
    if not is_open(fabric, training.precision):
        return fabric
    settled = make_fabric("cpu", faster(recorded(run, lambda: measure_precisions(objective, training, image_size))))
    settled.launch()
    return settled


def recorded(run: RunFolder, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What was measured when this run began, or else what ``measure`` finds now, for every later start."""
    path = run.path / "precision.json"
    try:
        rates = read_json(path)["images_per_cpu_second"]
        return {precision: float(rates[precision]) for precision in (EXACT, MIXED)}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        warn(f"{path} is damaged ({error}); the precisions are measured again")
    rates = measure()
    write_json(path, {"images_per_cpu_second": rates})
    return rates


def measure_precisions(objective: Objective, training: Training, image_size: int) -> dict[str, float]:
    """Images per CPU second of both precisions, from a few steps on random images.

    Copies are trained, and no draw of the run is used up: neither its weights nor its randomness notice. CPU time and
    not the clock's, because other programs may be running.

    Args:
        objective: the objective with its initial weights, on the CPU.
        training: the run's training settings; the batch may be smaller, nothing is compiled, the learning rate is 0.
        image_size: px.
    """
    batch = min(training.batch_size, _IMAGES)
    short = training.model_copy(update={"batch_size": batch, "accumulate": 1, "compile": False, "base_lr": 0.0})
    generator = generator_for(0, "precision")
    images = torch.randint(0, 256, (batch, 3, image_size, image_size), dtype=torch.uint8, generator=generator)
    trainers = {}
    for precision in (EXACT, MIXED):
        fabric = make_fabric("cpu", precision)
        fabric.launch()
        trainers[precision] = Trainer(copy.deepcopy(objective), short, image_size, 0, 1, fabric)
    source = MemorySource(images, torch.zeros(batch, dtype=torch.long), trainers[EXACT].plan())
    seconds = dict.fromkeys(trainers, float("inf"))
    for turn in range(1 + _STEPS):
        for precision, trainer in trainers.items():
            start = time.process_time()
            trainer.step = 0
            with suppress(FloatingPointError):  # a precision in which the loss is not finite is infinitely slow
                trainer.run_step(source)
                if turn > 0:  # the first one warms up
                    seconds[precision] = min(seconds[precision], time.process_time() - start)
    return {precision: batch / best for precision, best in seconds.items()}


def faster(rates: dict[str, float]) -> str:
    """The precision to train in, given what :func:`measure_precisions` found."""
    return MIXED if rates[MIXED] > _GAIN * rates[EXACT] else EXACT
