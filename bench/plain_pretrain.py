"""The pre-training loop that one would write first: the baseline of ``bench_pretrain.py``.

The same methods and the same networks, in the way of the published code: JPEG files decoded by worker processes at
every epoch, torchvision's transforms image by image on the CPU, one forward pass per view, attention from its parts,
AdamW and the momentum update parameter by parameter, and on a GPU float16 autocast with a loss scaler.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from cl_vs_mim.config import Architecture, Model, View
from cl_vs_mim.pretrain.moco_v3 import contrastive_loss
from cl_vs_mim.pretrain.registry import build_objective


class PlainLoop:
    """One model, trained the plain way on the ImageFolder ``folder``."""

    def __init__(
        self, model: Model, architecture: Architecture, folder: Path, device: torch.device, workers: int
    ) -> None:
        self.training, self.device = model.training, device
        self.objective = build_objective(model, architecture, 0).to(device).train()
        for module in self.objective.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
        groups = self.objective.parameter_groups(model.training.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, foreach=False)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        transforms = [_transform(view, view.size or architecture.image_size) for view in self.objective.views]
        self.loader = DataLoader(
            ImageFolder(str(folder), lambda image: [transform(image) for transform in transforms]),
            batch_size=model.training.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self.generator = torch.Generator().manual_seed(0)

    def images_per_second(self) -> float:
        """Over one epoch, from the end of its first step: the filling of the pipeline is left out."""
        start, steps = 0.0, -1
        for views, _ in self.loader:
            self._step([view.to(self.device, non_blocking=True) for view in views])
            steps += 1
            if steps == 0:
                start = time.perf_counter()
        return steps * self.training.batch_size / (time.perf_counter() - start)

    def flops_per_image(self) -> float:
        """Multiplications and additions of one step's matrix products, forward and backward, by torch's counter."""
        views, _ = next(iter(self.loader))
        with FlopCounterMode(display=False) as counter:
            self._loss([view.to(self.device) for view in views]).backward()
        self.optimizer.zero_grad()
        return counter.get_total_flops() / self.training.batch_size

    def _step(self, views: list[torch.Tensor]) -> None:
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            loss = self._loss(views)
        self.scaler.scale(loss).backward()
        if self.training.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.training.clip_norm, foreach=False)
        loss.item()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def _loss(self, views: list[torch.Tensor]) -> torch.Tensor:
        return self._moco(*views) if len(views) == 2 else self.objective(views, self.generator).loss

    def _moco(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        o = self.objective
        q1, q2 = (o.predictor(o.projector(o.encoder(x)[:, 0])) for x in (x1, x2))
        with torch.no_grad():
            for leader, follower in ((o.encoder, o.momentum_encoder), (o.projector, o.momentum_projector)):
                for new, old in zip(leader.parameters(), follower.parameters(), strict=True):
                    old.data = old.data * 0.99 + new.data * 0.01
            k1, k2 = (o.momentum_projector(o.momentum_encoder(x)[:, 0]) for x in (x1, x2))
        return contrastive_loss(q1, k2, o.temperature) + contrastive_loss(q2, k1, o.temperature)


def _transform(view: View, size: int) -> v2.Compose:
    """A view in torchvision's own words, on a Pillow image."""
    interpolation = v2.InterpolationMode(view.interpolation)
    parts: list[torch.nn.Module] = [v2.RandomResizedCrop(size, view.crop_scale, view.crop_ratio, interpolation)]
    if view.jitter_probability:
        jitter = v2.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
        parts.append(v2.RandomApply([jitter], view.jitter_probability))
    if view.grayscale:
        parts.append(v2.RandomGrayscale(view.grayscale))
    if view.blur is not None:
        sigma = tuple(s * size / 224 for s in view.blur.sigma)
        kernel = 2 * round(4 * sigma[1]) + 1  # as far as ours
        parts.append(v2.RandomApply([v2.GaussianBlur(max(3, kernel), sigma)], view.blur.probability))
    if view.solarize:
        parts.append(v2.RandomSolarize(128, view.solarize))
    parts += [v2.RandomHorizontalFlip(view.flip), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose([*parts, v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
