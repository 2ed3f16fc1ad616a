"""The only training loop: any objective, on a CPU, a GPU or many, killed and resumed at will.

    python -m cl_vs_mim.pretrain.loop --config config/demo.yaml --model moco_v3 --seed 0 \\
        --data results/demo/data/objects --runs results/demo/runs \\
        --output results/demo/encoders/moco_v3_seed0.safetensors

Every random draw is a function of the seed, its purpose and the step (see :mod:`cl_vs_mim.randomness`). A run that
was killed goes on from its last checkpoint and ends with the weights of an undisturbed run: on a CPU bit for bit, for
a fixed number of threads (1 and 2 threads differ in the last digits, because sums are split differently).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from cl_vs_mim.artifacts import row_head, with_head, write_table
from cl_vs_mim.checkpoints import save_encoder
from cl_vs_mim.config import Architecture, Model, Training, load_study
from cl_vs_mim.data.augment import augment
from cl_vs_mim.errors import UserError, run_cli
from cl_vs_mim.pretrain.data import batch_positions, index_training_images, load_training_images, steps_per_epoch
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.pretrain.state import RunFolder, resolve_run
from cl_vs_mim.progress import progress
from cl_vs_mim.randomness import generator_for, global_randomness

PAUSED = 75  # exit status of a run that stopped at --stop-after-minutes; the same command goes on with it

# ------------------------------------------------------------------------------------------------
# Schedule and monitors
# ------------------------------------------------------------------------------------------------


def learning_rate(step: int, steps: int, warmup: float, training: Training) -> float:
    """Linear warm-up over ``warmup`` steps, then half a cosine down to ``min_lr``; ``step`` counts from 0."""
    peak = training.base_lr * training.batch_size / training.lr_batch
    if step < warmup:
        return peak * min(1.0, (step + 1) / warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    return training.min_lr + (peak - training.min_lr) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def feature_std(features: Tensor) -> float:
    """Collapse monitor (SimSiam's, arXiv 2011.10566 section 4.1): (B, D) -> sqrt(D) * mean standard deviation.

    Features are L2-normalised, the standard deviation is over the batch and averaged over channels. 1: directions
    are spread evenly over the sphere; 0: all images have the same features. A common offset, which the final
    LayerNorm of an encoder may leave, lowers it without harm; a fall towards 0 in training is a collapse.
    """
    return float(F.normalize(features.float(), dim=1).std(dim=0).mean() * features.shape[1] ** 0.5)


# ------------------------------------------------------------------------------------------------
# Training
# ------------------------------------------------------------------------------------------------


class Trainer:
    """One model, one seed, one run folder."""

    def __init__(self, model: Model, architecture: Architecture, seed: int, steps_per_epoch: int, fabric: Fabric):
        self.training, self.architecture, self.seed, self.fabric = model.training, architecture, seed, fabric
        self.per_epoch = steps_per_epoch
        self.steps = model.training.epochs * steps_per_epoch
        self.objective = build_objective(model, architecture, seed)
        if fabric.world_size > 1:  # as the originals: statistics of the global batch
            self.objective = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.objective)
        groups = self.objective.parameter_groups(model.training.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=model.training.betas, fused=True)
        self.wrapped, self.optimizer = fabric.setup(self.objective, optimizer)
        self.step = 0  # steps done

    def state(self) -> dict:
        """All that a resumed run needs besides its configuration."""
        return {"objective": self.objective.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict) -> None:
        """Go on from :meth:`state`."""
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def run_step(self, images: Tensor, labels: Tensor) -> tuple[dict[str, float], Tensor]:
        """One step on ``images`` (M, 3, S, S) uint8 with ``labels`` (M,) int64, the whole training set.

        Returns the step's line of the log, and the features (B, D) of its images.

        Raises:
            FloatingPointError: loss or gradient is not finite; the weights are still those before the step.
        """
        step, training, device = self.step, self.training, images.device
        rank, world = self.fabric.global_rank, self.fabric.world_size
        lr = learning_rate(step, self.steps, training.warmup_epochs * self.per_epoch, training)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

        positions = batch_positions(step, len(images), training.batch_size, self.seed)
        positions = positions.chunk(world)[rank]
        batch = images[positions.to(device, non_blocking=True)]
        supervision = [labels[positions].to(device, non_blocking=True)] if self.objective.needs_labels else []
        size = self.architecture.image_size
        views = [
            augment(batch, view, view.size or size, generator_for(self.seed, "view", step, rank, number))
            for number, view in enumerate(self.objective.views)
        ]
        self.objective.train()
        self.objective.before_step(step / self.steps)
        with global_randomness(self.seed, "step", step, rank, device=device):  # stochastic depth
            output = self.wrapped(views, generator_for(self.seed, "objective", step, rank), *supervision)
        self.fabric.backward(output.loss)
        self.objective.after_backward(step / self.steps)
        grad_norm = self._clip()
        loss, norm = torch.stack([output.loss.detach().float(), grad_norm.float()]).tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"loss {loss}, gradient norm {norm} at step {step + 1} (learning rate {lr:.3g})")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step + 1
        self.objective.after_step(self.step / self.steps)
        epoch = self.step / self.per_epoch
        line = {"step": self.step, "epoch": epoch, "loss": loss, "lr": lr, "grad_norm": norm, **output.metrics}
        return line, output.features

    def _clip(self) -> Tensor:
        """Total gradient norm before clipping."""
        if self.training.clip_norm is None:
            return torch.nn.utils.get_total_norm([p.grad for p in self.objective.parameters() if p.grad is not None])
        return self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.training.clip_norm, error_if_nonfinite=False
        )


def train(trainer: Trainer, images: Tensor, labels: Tensor, run: RunFolder, deadline: float) -> bool:
    """Train to the end or to the deadline (of ``time.monotonic``), writing log and checkpoints into ``run``.

    Returns whether the end was reached; the last state is saved in both cases.

    Raises:
        UserError: the loss is not finite; the message names step, learning rate and last good checkpoint.
    """
    training = trainer.training
    before = run.cut_log(trainer.step)
    began = since = time.monotonic()
    done = saved = trainer.step
    bar = progress(
        total=trainer.steps * training.batch_size,
        initial=trainer.step * training.batch_size,
        desc=run.path.name.rsplit("_", 1)[0],
        unit="image",
    )
    with bar, deterministic_on_cpu(images.device):
        while trainer.step < trainer.steps and time.monotonic() < deadline:
            try:
                line, features = trainer.run_step(images, labels)
            except FloatingPointError as error:
                good = next((str(path) for path in run.checkpoints()), "none")
                raise UserError(
                    f"training stopped: {error}; last good checkpoint: {good}; lower base_lr or lengthen the warm-up"
                ) from error
            bar.set_postfix(loss=f"{line['loss']:.4f}", refresh=False)
            bar.update(training.batch_size)
            if trainer.step % training.log_steps == 0 or trainer.step == trainer.steps:
                line["feature_std"] = feature_std(features)
                now = time.monotonic()
                line["images_per_second"] = (trainer.step - done) * training.batch_size / (now - since)
                line["seconds"] = before + now - began
                run.log(line)
                done, since = trainer.step, now
            if trainer.step % training.checkpoint_steps == 0:
                run.save(trainer.step, trainer.state())
                saved = trainer.step
    if trainer.step > saved:
        run.save(trainer.step, trainer.state())
    return trainer.step == trainer.steps


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
    deadline = time.monotonic() + 60 * arguments.stop_after_minutes
    study = load_study(arguments.config)
    if arguments.model not in study.models:
        raise UserError(f"{arguments.config} has no model {arguments.model!r}; it has {', '.join(study.models)}")
    model = study.models[arguments.model]
    architecture = study.architectures[model.architecture]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    fabric = make_fabric(arguments.device, model.training.precision)
    index, data_hash = index_training_images(arguments.data)
    per_epoch = steps_per_epoch(len(index), model.training.batch_size)
    wanted = getattr(model.objective, "classes", len(index.classes))
    if wanted != len(index.classes):
        raise UserError(
            f"models.{arguments.model}.objective.classes is {wanted}, but {index.root} has {len(index.classes)} folders"
        )
    resolved = resolve_run(model, architecture, data_hash, arguments.seed)
    with RunFolder(arguments.runs, arguments.model, resolved) as run:
        trainer = Trainer(model, architecture, arguments.seed, per_epoch, fabric)
        state = run.load_latest(fabric.device)
        if state is not None:
            trainer.restore(state)
        if trainer.step < trainer.steps:
            images = load_training_images(index, architecture.image_size, fabric.device)
            if not train(trainer, images, torch.from_numpy(index.labels), run, deadline):
                print(
                    f"paused at step {trainer.step} of {trainer.steps}; run the same command again to go on",
                    file=sys.stderr,
                )
                sys.exit(PAUSED)
        head = row_head(study=study.study, config_hash=run.digest, data_hash=data_hash, device=fabric.device)
        names = {"model": arguments.model, "method": model.objective.method, "seed": arguments.seed}
        if arguments.log_table is not None:
            write_table(arguments.log_table, with_head(run.read_log().assign(**names), head))
        metadata = {**names, "steps": trainer.steps, **head}
        objective = trainer.objective  # last: the declared output
        save_encoder(arguments.output, objective.encoder, metadata, decoder=objective.export_decoder())


def make_fabric(device: str, precision: str) -> Fabric:
    """Lightning Fabric on one device; ``auto`` takes a GPU if there is one, and bf16 with it."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA GPU is to be seen here; use --device cpu or auto")
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "cuda" else "32-true"
    return Fabric(accelerator=accelerator, devices=1, precision=precision)


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
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; the result depends on it in the last digits")
    parser.add_argument(
        "--stop-after-minutes",
        type=float,
        default=math.inf,
        help=f"save the state and leave with status {PAUSED} after this long",
    )
    return parser


if __name__ == "__main__":
    run_cli(main, parser())
