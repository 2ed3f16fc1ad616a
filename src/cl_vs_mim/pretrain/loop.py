"""The only training loop: any objective, on a CPU, a GPU or many, killed and resumed at will.

    python -m cl_vs_mim.pretrain.loop --config config/demo.yaml --model moco_v3 --seed 0 \\
        --data results/demo/data/objects --runs results/demo/runs \\
        --output results/demo/encoders/moco_v3_seed0.safetensors

Every random draw is a function of the seed, its purpose and the step (see :mod:`cl_vs_mim.core.randomness`). A run that
was killed goes on from its last checkpoint and ends with the weights of an undisturbed run: on a CPU bit for bit, for
a fixed number of threads (1 and 2 threads differ in the last digits, because sums are split differently).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning_fabric import Fabric

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import row_head, with_head, write_table
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, save_encoder
from cl_vs_mim.encoder.decoder import VQDecoder
from cl_vs_mim.pretrain.beit import BEiT
from cl_vs_mim.pretrain.data import index_training_images, steps_per_epoch
from cl_vs_mim.pretrain.interrupt import add_stop_option, deadline_of, leave_paused, stop_on_signals
from cl_vs_mim.pretrain.monitor import WATCHED, EventLog, feature_std, last_block_nmi
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.pretrain.sources import Source, make_source
from cl_vs_mim.pretrain.state import RunFolder, resolve_run, warn
from cl_vs_mim.pretrain.trainer import Trainer

# ------------------------------------------------------------------------------------------------
# Training
# ------------------------------------------------------------------------------------------------


def train(trainer: Trainer, source: Source, run: RunFolder, deadline: float) -> bool:
    """Train to the end or to the deadline (of ``time.monotonic``), writing log and checkpoints into ``run``.

    SIGTERM and SIGUSR1 end it after the step as the deadline does. Returns whether the end was reached; the last state
    is saved in both cases.

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
    watched = source.first(WATCHED)
    events = EventLog(run.path, trainer.step, wanted=fabric.is_global_zero)
    with bar, events, deterministic_on_cpu(fabric.device), stop_on_signals() as stop:
        while trainer.step < trainer.steps and not _agreed(fabric, bool(stop) or time.monotonic() >= deadline):
            try:
                line, features = trainer.run_step(source)
            except FloatingPointError as error:
                roll_back(trainer, run, error)
                done = saved = trainer.step
                before, began = run.cut_log(trainer.step) if fabric.is_global_zero else 0.0, time.monotonic()
                continue
            bar.set_postfix(loss=f"{line['loss']:.4f}", refresh=False)
            bar.update(training.batch_size)
            epoch_ends = trainer.step % trainer.per_epoch == 0
            due = epoch_ends or trainer.step % training.log_steps == 0
            if fabric.is_global_zero and due:
                line["feature_std"] = feature_std(features)
                line["nmi"] = last_block_nmi(trainer.objective.encoder, watched) if epoch_ends else None
                now = time.monotonic()
                line["images_per_second"] = (trainer.step - done) * training.batch_size / (now - since)
                line["seconds"] = before + now - began
                run.log(line)
                events.add(line)
                done, since = trainer.step, now
            if trainer.step % training.checkpoint_steps == 0:
                save(trainer, run)
                saved = trainer.step
    if trainer.step > saved:
        save(trainer, run)
    return trainer.step == trainer.steps


def save(trainer: Trainer, run: RunFolder) -> None:
    """One process writes the state; the others wait until it is whole."""
    if trainer.fabric.is_global_zero:
        run.save(trainer.step, trainer.state())
    trainer.fabric.barrier()


def roll_back(trainer: Trainer, run: RunFolder, error: FloatingPointError) -> None:
    """Back to the last checkpoint with a lower learning rate, if the configuration says so, and once only.

    Raises:
        UserError: it does not say so, it has been done before, or there is no checkpoint.
    """
    factor = trainer.training.rollback_factor
    good = next((str(path) for path in run.checkpoints()), "none")
    state = run.load_latest(trainer.fabric.device) if factor is not None and trainer.lr_scale == 1 else None
    if state is None:
        again = "" if trainer.lr_scale == 1 else " again, after a rollback"
        raise UserError(
            f"training stopped{again}: {error}; last good checkpoint: {good}; lower base_lr or lengthen the warm-up"
        ) from error
    trainer.restore(state)
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


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    """Train one model with one seed, or go on with it, and export its encoder."""
    deadline = deadline_of(arguments)
    study = load_study(arguments.config)
    if arguments.model not in study.models:
        raise UserError(f"{arguments.config} has no model {arguments.model!r}; it has {', '.join(study.models)}")
    model = study.models[arguments.model]
    architecture = study.architectures[model.architecture]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    fabric = make_fabric(arguments.device, model.training.precision, arguments.devices, arguments.nodes)
    fabric.launch()
    index, data_hash = index_training_images(arguments.data)
    per_epoch = steps_per_epoch(len(index), model.training.batch_size)
    wanted = getattr(model.objective, "classes", len(index.classes))
    if wanted != len(index.classes):
        raise UserError(
            f"models.{arguments.model}.objective.classes is {wanted}, but {index.root} has {len(index.classes)} folders"
        )
    needed = model.objective.method == "beit"
    tokenizer = tokenizer_digest(arguments.tokenizer, arguments.model, needed)
    resolved = resolve_run(model, architecture, data_hash, arguments.seed, tokenizer)
    with RunFolder(arguments.runs, arguments.model, resolved, held=fabric.is_global_zero) as run:
        fabric.barrier()
        objective = build_objective(model, architecture, arguments.seed)
        if isinstance(objective, BEiT):
            attach_tokenizer(objective, arguments.tokenizer)
        trainer = Trainer(objective, model.training, architecture.image_size, arguments.seed, per_epoch, fabric)
        state = run.load_latest(fabric.device)
        if state is not None:
            trainer.restore(state)
        if trainer.step < trainer.steps:
            workers = study.compute.loader_workers
            source = make_source(index, index.labels, model.training.images, trainer.recipe(), fabric.device, workers)
            if not train(trainer, source, run, deadline):
                leave_paused(trainer.step, trainer.steps, quiet=not fabric.is_global_zero)
        if not fabric.is_global_zero:
            return
        head = row_head(study=study.study, config_hash=run.digest, data_hash=data_hash, device=fabric.device)
        names = {"model": arguments.model, "method": model.objective.method, "seed": arguments.seed}
        if arguments.log_table is not None:
            series = {"label": model.label, "paradigm": model.paradigm, "architecture": model.architecture}
            write_table(arguments.log_table, with_head(run.read_log().assign(**names, **series), head))
        metadata = {**names, "steps": trainer.steps, **head}
        # last: the declared output
        save_encoder(arguments.output, objective.encoder, metadata, decoder=objective.export_decoder())


def tokenizer_digest(path: Path | None, model: str, needed: bool) -> str | None:
    """The sha256 of the tokenizer's file, which belongs to what decides the weights.

    Raises:
        UserError: it is needed and not given, given and not needed, or missing.
    """
    if needed != (path is not None):
        what = "needs a tokenizer: give its file with" if needed else "takes no tokenizer: leave out"
        raise UserError(f"{model} {what} --tokenizer")
    if path is None:
        return None
    if not path.is_file():
        raise UserError(f"tokenizer {path} does not exist; train it first, as the model of that name")
    return sha256_file(path)


def attach_tokenizer(objective: BEiT, path: Path) -> None:
    """Read the tokenizer and hand it to the objective.

    Raises:
        UserError: it is no tokenizer, or not one for this encoder.
    """
    encoder = load_encoder(path, "native")
    decoder = load_decoder(path, "native", encoder)
    if not isinstance(decoder, VQDecoder):
        raise UserError(f"{path} holds a decoder of method {decoder.spec.method}, not a tokenizer")
    try:
        objective.attach_tokenizer(encoder, decoder)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def make_fabric(device: str, precision: str, devices: int = 1, nodes: int = 1) -> Fabric:
    """Lightning Fabric; ``auto`` takes GPUs if there are any, and bf16 with them.

    With several devices it starts the other processes itself, or joins those that torchrun or SLURM started.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA GPU is to be seen here; use --device cpu or auto")
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "cuda" else "32-true"
    strategy = "ddp" if devices * nodes > 1 else "auto"
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cl_vs_mim.pretrain.loop", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config/<study>.yaml")
    parser.add_argument("--model", required=True, help="a name under models: in the study")
    parser.add_argument("--seed", type=int, required=True, help="of weights, order, augmentation and masks")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and manifest.json")
    parser.add_argument("--runs", type=Path, required=True, help="where run folders live; keep it between calls")
    parser.add_argument("--output", type=Path, required=True, help="encoder, .safetensors")
    parser.add_argument("--log-table", type=Path, help="copy of the training log as a tidy table, .csv or .parquet")
    parser.add_argument("--tokenizer", type=Path, help="for beit: the tokenizer, as this command exported it")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--devices", type=int, default=1, help="processes of this machine that train together")
    parser.add_argument("--nodes", type=int, default=1, help="machines, each with that many devices")
    parser.add_argument("--threads", type=int, help="CPU threads; the result depends on it in the last digits")
    add_stop_option(parser)
    return parser


if __name__ == "__main__":
    run_cli(main, parser())
