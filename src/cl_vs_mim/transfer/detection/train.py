"""The training loop: detectron2's losses, our randomness, run folder and polite end.

Iteration k is a function of the weights before it, the seed and k. A killed run goes on from its last checkpoint and
ends with the weights of an undisturbed one: on a CPU bit for bit, for a fixed number of threads.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import Tensor, nn

from cl_vs_mim.config.detection import Detection
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.pretrain.interrupt import stop_on_signals
from cl_vs_mim.pretrain.loop import deterministic_on_cpu
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.transfer.detection.data import Record, TrainingSamples, training_batches
from cl_vs_mim.transfer.detection.recipe import build_detector, build_optimizer

# The last one tells detectron2's authors that a function was renamed.
_LOGGERS = ("detectron2", "fvcore", "iopath", "py.warnings", "torch.fx._symbolic_trace")


@dataclass
class Detector:
    """What one training changes, and how far it is."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    multiplier: Any  # share of the training (0 … 1) -> factor of the learning rate
    settings: Detection
    seed: int
    device: torch.device
    step: int = 0

    @classmethod
    def build(
        cls, config: DictConfig, encoder: Encoder, settings: Detection, seed: int, device: torch.device
    ) -> Detector:
        """The detector before its first iteration, the encoder's weights inside."""
        model = build_detector(config, encoder, seed, device).train()
        return cls(model, build_optimizer(config, model), instantiate(config.multiplier), settings, seed, device)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where ``state`` was saved."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def run_step(self, batch: list[Record]) -> dict[str, float]:
        """One iteration; returns the losses, their sum as ``loss``, and the learning rate.

        Raises:
            UserError: the loss is not finite.
        """
        factor = self.multiplier(self.step / self.settings.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        parts, size = self.settings.accumulate, len(batch) // self.settings.accumulate
        totals: dict[str, float] = {}
        # detectron2 draws anchors and regions from torch's global generator and insists on an event storage
        with global_randomness(self.seed, "detection", "step", self.step, device=self.device), EventStorage(self.step):
            for start in range(0, len(batch), size):
                losses: dict[str, Tensor] = self.model(batch[start : start + size])
                (sum(losses.values()) / parts).backward()
                for name, loss in losses.items():
                    totals[name] = totals.get(name, 0.0) + float(loss.detach()) / parts
        loss = sum(totals.values())
        if not math.isfinite(loss):
            raise UserError(
                f"training stopped at iteration {self.step + 1}: the loss is {loss} ({totals}) at learning rate "
                f"{self.settings.base_lr * factor:g}; lower transfer.detection.base_lr, lengthen warmup_iterations or "
                "set clip_norm"
            )
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.step += 1
        return {"loss": loss, **totals, "lr": self.settings.base_lr * factor}


def train(detector: Detector, samples: TrainingSamples, run: RunFolder, deadline: float, workers: int = 0) -> bool:
    """Train to the end or to the deadline (of ``time.monotonic``), writing log and checkpoints into ``run``.

    SIGTERM and SIGUSR1 end it after the iteration, as the deadline does. Returns whether the end was reached; the last
    state is saved in both cases.

    Raises:
        UserError: the loss is not finite, or an image cannot be read.
    """
    settings = detector.settings
    before, began = run.cut_log(detector.step), time.monotonic()
    saved = detector.step
    bar = progress(
        total=settings.iterations,
        initial=detector.step,
        desc=run.path.name.rsplit("_", 1)[0],
        unit="iteration",
    )
    with bar, deterministic_on_cpu(detector.device), stop_on_signals() as stop:
        batches = training_batches(samples, settings.batch_size, detector.step, workers)
        while detector.step < settings.iterations and not stop and time.monotonic() < deadline:
            line = detector.run_step(next(batches))
            bar.set_postfix(loss=f"{line['loss']:.3f}", refresh=False)
            bar.update()
            if detector.step % settings.log_iterations == 0 or detector.step == settings.iterations:
                run.log({"step": detector.step, **line, "seconds": before + time.monotonic() - began})
            if detector.step % settings.checkpoint_iterations == 0:
                run.save(detector.step, detector.state())
                saved = detector.step
    if detector.step > saved:
        run.save(detector.step, detector.state())
    return detector.step == settings.iterations


@contextlib.contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Inside the block everything that detectron2, its helpers and Python's warnings say goes to this file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()
