"""One step of training, for any objective, on one process or many."""

from __future__ import annotations

import math
import os
import shutil
from importlib.util import find_spec
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.optim import Lars
from torch import Tensor, nn

from cl_vs_mim.config import Training
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.randomness import generator_for, global_randomness
from cl_vs_mim.encoder.decoders import Decoder
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.pretrain.distributed import share_batch_norms
from cl_vs_mim.pretrain.objective import Objective
from cl_vs_mim.pretrain.schedule import learning_rate, weight_decay
from cl_vs_mim.pretrain.sources import BatchPlan, Source

_LONG = 400  # patches: from here on attention stays fused, whose memory does not grow with the square of their number


def compile_blocks(module: nn.Module, device: torch.device) -> None:
    """Have torch.compile fuse the blocks of all encoders and decoders in ``module``, in place.

    Blocks and not the whole network: they share one compiled code, so that the wait is that of one block.

    Raises:
        UserError: what torch.compile needs is not installed.
    """
    if device.type == "cuda":
        missing = None if find_spec("triton") else "the package triton"
    else:
        missing = None if any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))) else "a C++ compiler"
    if missing:
        raise UserError(f"training.compile on {device} needs {missing}; install it, or set compile to false")
    for part in module.modules():
        if isinstance(part, Encoder | Decoder):
            for block in getattr(part, "blocks", ()):  # most decoders have none
                block.compile(dynamic=False)


def multiply_out_attention(module: nn.Module) -> None:
    """Have all attention in ``module`` computed as plain matrix products, in place.

    On a CPU the backward pass of torch's fused attention is made for long sequences: in bfloat16, at 65 tokens, it is
    seven times slower than the products. The maps are kept for it, which long sequences could not afford.
    """
    encoders = [part for part in module.modules() if isinstance(part, Encoder)]
    if any(encoder.spec.grid**2 >= _LONG for encoder in encoders):
        return
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False


def make_optimizer(groups: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """The optimizer that ``training.optimizer`` names; learning rates are set at every step."""
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=training.momentum)
    if training.optimizer == "lars":
        return Lars(groups, lr=0.0, momentum=training.momentum)
    return torch.optim.AdamW(groups, lr=0.0, betas=training.betas, fused=True)


class Trainer:
    """One objective, one seed: its optimizer, and how many steps are done.

    Args:
        objective: the objective with its initial weights; moved to the device and trained in place.
        training: the training settings.
        image_size: side of views without a size of their own, px.
        seed: seeds the order, the augmentation and all other draws.
        steps_per_epoch: whole batches in the training set.
        fabric: launched.

    Raises:
        UserError: the batch cannot be cut as asked, over processes or into parts.
    """

    def __init__(
        self,
        objective: Objective,
        training: Training,
        image_size: int,
        seed: int,
        steps_per_epoch: int,
        fabric: Fabric,
    ) -> None:
        self.objective, self.training, self.fabric = objective, training, fabric
        self.image_size, self.seed = image_size, seed
        self.per_epoch = steps_per_epoch
        self.steps = training.epochs * steps_per_epoch
        self._check_parts()
        if fabric.device.type == "cpu" and fabric.strategy.precision.precision == "bf16-mixed":
            multiply_out_attention(self.objective)
        if training.compile:
            compile_blocks(self.objective, fabric.device)
        if fabric.world_size > 1:  # as the originals: statistics of the global batch
            if fabric.device.type == "cuda":
                self.objective = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.objective)
            else:
                share_batch_norms(self.objective)
        groups = self.objective.parameter_groups(training.weight_decay)
        optimizer = make_optimizer(groups, training)
        self.wrapped, self.optimizer = fabric.setup(self.objective, optimizer)
        self.step = 0  # steps done
        self.lr_scale = 1.0  # below 1 after a rollback

    def _check_parts(self) -> None:
        training, world = self.training, self.fabric.world_size
        if training.accumulate > 1 and not self.objective.splits_batches:
            raise UserError(
                f"training.accumulate {training.accumulate}: {type(self.objective).__name__} compares the images of a "
                "batch with each other, so its parts do not add up to the whole; lower batch_size or use more devices"
            )
        if training.batch_size % (world * training.accumulate):
            raise UserError(
                f"training.batch_size {training.batch_size} cannot be cut into {world} processes with "
                f"{training.accumulate} parts each; choose a multiple of {world * training.accumulate}"
            )

    def state(self) -> dict:
        """All that a resumed run needs besides its configuration."""
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scale": self.lr_scale,
        }

    def restore(self, state: dict) -> None:
        """Go on from :meth:`state`."""
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_scale = state["lr_scale"]
        self.step = state["step"]

    def plan(self) -> BatchPlan:
        """What a source of batches needs to know."""
        return BatchPlan(self.objective.views, self.image_size, self.training.batch_size, self.seed)

    def run_step(self, source: Source) -> tuple[dict[str, float], Tensor]:
        """One step on the batch that ``source`` gives for it.

        Returns the step's line of the log, and the features (B, D) of this process's images.

        Raises:
            FloatingPointError: loss or gradient is not finite; the weights are still those before the step.
        """
        step, progress = self.step, self.step / self.steps
        lr = self._set_rates(step)
        self.objective.train()
        self.objective.before_step(progress)
        parts = self._parts(source)
        outputs = []
        for number, (views, supervision) in enumerate(parts):
            with self.fabric.no_backward_sync(self.wrapped, enabled=number < len(parts) - 1):
                outputs.append(self._forward(views, supervision, number))
                self.fabric.backward(outputs[-1].loss / len(parts))
        self.objective.after_backward(progress)
        grad_norm = self._clip()
        total = torch.stack([output.loss.detach().float() for output in outputs]).mean()
        loss, norm = torch.stack([total, grad_norm.float()]).tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(f"loss {loss}, gradient norm {norm} at step {step + 1} (learning rate {lr:.3g})")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step + 1
        self.objective.after_step(self.step / self.steps)
        epoch = self.step / self.per_epoch
        line = {"step": self.step, "epoch": epoch, "loss": loss, "lr": lr, "grad_norm": norm, **outputs[-1].metrics}
        return line, torch.cat([output.features for output in outputs])

    def _set_rates(self, step: int) -> float:
        training = self.training
        lr = self.lr_scale * learning_rate(step, self.steps, training.warmup_epochs * self.per_epoch, training)
        decay = weight_decay(step, self.steps, training)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)  # of layer-wise decay
            if group["weight_decay"] > 0:
                group["weight_decay"] = decay
        return lr

    def _parts(self, source: Source) -> list[tuple[list[Tensor], list[Tensor]]]:
        """This process's part of the batch as views and labels, cut for accumulation."""
        training, rank = self.training, self.fabric.global_rank
        count = training.batch_size // self.fabric.world_size
        views, labels = source.batch(self.step, slice(rank * count, (rank + 1) * count))
        supervision = [labels] if self.objective.needs_labels else []
        cut = [tensor.chunk(training.accumulate) for tensor in (*views, *supervision)]
        return [(list(part[: len(views)]), list(part[len(views) :])) for part in zip(*cut, strict=True)]

    def _forward(self, views: list[Tensor], supervision: list[Tensor], part: int):
        generator = generator_for(self.seed, "objective", self.step, part)  # the same in every process
        rank = self.fabric.global_rank
        with global_randomness(self.seed, "step", self.step, rank + part, device=self.fabric.device):  # drop path
            return self.wrapped(views, generator, *supervision)

    def _clip(self) -> Tensor:
        """Total gradient norm before clipping."""
        if self.training.clip_norm is None:
            return torch.nn.utils.get_total_norm([p.grad for p in self.objective.parameters() if p.grad is not None])
        return self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.training.clip_norm, error_if_nonfinite=False
        )
