"""The only training loop: any objective, on a CPU, a GPU or many, killed and resumed at will.

Every random draw is a function of the seed, its purpose and the step (see :mod:`cl_vs_mim.core.randomness`). A run that
was killed goes on from its last checkpoint and ends with the weights of an undisturbed run: on a CPU bit for bit, for
a fixed number of threads (1 and 2 threads differ in the last digits, because sums are split differently).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric

from cl_vs_mim.core.errors import UserError, warn
from cl_vs_mim.core.progress import progress
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.pretrain.interrupt import stop_on_signals
from cl_vs_mim.pretrain.monitor import WATCHED, EventLog, feature_std, last_block_nmi
from cl_vs_mim.pretrain.precision import precision_of
from cl_vs_mim.pretrain.schedule import snapshot_steps
from cl_vs_mim.pretrain.sources import Source
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.pretrain.trainer import Trainer
from cl_vs_mim.pretrain.watch import LossWatch

# ------------------------------------------------------------------------------------------------
# Training
# ------------------------------------------------------------------------------------------------


def train(
    trainer: Trainer, source: Source, run: RunFolder, deadline: float, provenance: Mapping[str, Any] | None = None
) -> bool:
    """Train to the end or to the deadline (of ``time.monotonic``), writing log and checkpoints into ``run``.

    SIGTERM and SIGUSR1 end it after the step as the deadline does. Returns whether the end was reached; the last state
    is saved in both cases. Snapshots of the encoder, where the configuration wants them, carry ``provenance``.

    Raises:
        UserError: the loss is not finite; the message names step, learning rate and last good checkpoint.
    """
    training, fabric = trainer.training, trainer.fabric
    before = run.cut_log(trainer.step) if fabric.is_global_zero else 0.0
    began = since = time.monotonic()
    done = saved = trainer.step
    bar = progress(
        total=trainer.steps * training.batch_size,
        initial=trainer.step * training.batch_size,
        desc=run.path.name.rsplit("_", 1)[0],
        unit="image",
        quiet=not fabric.is_global_zero,
    )
    watch = LossWatch()
    watch.restore(run.watched)
    watched = source.first(WATCHED)
    kept = snapshot_steps(trainer.steps, training)
    events = EventLog(run.path, trainer.step, wanted=fabric.is_global_zero)
    with bar, events, deterministic_on_cpu(fabric.device), stop_on_signals() as stop:
        while trainer.step < trainer.steps and not _agreed(fabric, bool(stop) or time.monotonic() >= deadline):
            try:
                line, features = trainer.run_step(source)
            except FloatingPointError as error:
                roll_back(trainer, run, error, watch)
                done = saved = trainer.step
                before, began = run.cut_log(trainer.step) if fabric.is_global_zero else 0.0, time.monotonic()
                continue
            watch.add(line["loss"])
            bar.set_postfix(loss=f"{line['loss']:.4f}", refresh=False)
            bar.update(training.batch_size)
            epoch_ends = trainer.step % trainer.per_epoch == 0
            due = epoch_ends or trainer.step % training.log_steps == 0
            if fabric.is_global_zero and due:
                row: dict[str, float | None] = {**line, "feature_std": feature_std(features)}
                row["nmi"] = last_block_nmi(trainer.objective.encoder, watched) if epoch_ends else None
                now = time.monotonic()
                row["images_per_second"] = (trainer.step - done) * training.batch_size / (now - since)
                row["seconds"] = before + now - began
                run.log(row)
                events.add(trainer.step, row)
                done, since = trainer.step, now
            if trainer.step in kept and fabric.is_global_zero:
                keep_snapshot(trainer, run, provenance or {})
            if trainer.step % training.checkpoint_steps == 0:
                save(trainer, run, watch)
                saved = trainer.step
    if trainer.step > saved:
        save(trainer, run, watch)
    return trainer.step == trainer.steps


def save(trainer: Trainer, run: RunFolder, watch: LossWatch) -> None:
    """One process writes the state, and whether the one before was good; the others wait until it is whole."""
    if trainer.fabric.is_global_zero:
        run.judge_newest(watch.good)
        run.save(trainer.step, {**trainer.state(), "watch": watch.state()})
    watch.saved()
    trainer.fabric.barrier()


def keep_snapshot(trainer: Trainer, run: RunFolder, provenance: Mapping[str, Any]) -> None:
    """Write the encoder as it is now into the run folder, in float16: it is to be measured, not trained on."""
    images = trainer.step * trainer.training.batch_size
    now = {"precision": precision_of(trainer.fabric), "steps": trainer.step, "images": images}
    path = run.path / "snapshots" / f"images_{images:010d}.safetensors"
    save_encoder(path, trainer.objective.encoder, {**provenance, **now}, dtype=torch.float16)


def roll_back(trainer: Trainer, run: RunFolder, error: FloatingPointError, watch: LossWatch) -> None:
    """Back to the last good checkpoint with a lower learning rate, if the configuration says so, and once only.

    Raises:
        UserError: it does not say so, it has been done before, or there is no good checkpoint.
    """
    factor = trainer.training.rollback_factor
    if trainer.fabric.is_global_zero:
        run.judge_newest(watch.good)
    trainer.fabric.barrier()
    good = next((str(path) for path in run.checkpoints() if run.is_good(path)), "none")
    state = run.load_good(trainer.fabric.device) if factor is not None and trainer.lr_scale == 1 else None
    if factor is None or state is None:
        again = "" if trainer.lr_scale == 1 else " again, after a rollback"
        raise UserError(
            f"training stopped{again}: {error}; last good checkpoint: {good}; lower base_lr or lengthen the warm-up"
        ) from error
    trainer.fabric.barrier()
    if trainer.fabric.is_global_zero:
        run.drop_after(state["step"])
    trainer.restore(state)
    watch.restore(state.get("watch"))
    trainer.lr_scale = factor
    if trainer.fabric.is_global_zero:
        warn(f"{error}; back to step {trainer.step} with the learning rate times {factor:g}")


def _agreed(fabric: Fabric, stop: bool) -> bool:
    """Whether any process wants to stop; all get the same answer."""
    if fabric.world_size == 1:
        return stop
    return bool(fabric.all_reduce(torch.tensor(float(stop), device=fabric.device), reduce_op="sum") > 0)


@contextmanager
def deterministic_on_cpu(device: torch.device) -> Iterator[None]:
    """On a CPU, only algorithms whose sums do not depend on which thread comes first."""
    before, fill = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill
