"""What a detector's training changes, and one iteration of it: detectron2's losses, our randomness.

Iteration k is a function of the weights before it, the seed and k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.transfer.detection.data import Record
from cl_vs_mim.transfer.detection.recipe import build_detector, build_optimizer
from cl_vs_mim.transfer.detection.settings import Detection


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
