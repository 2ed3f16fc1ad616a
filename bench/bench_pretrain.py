"""Speed of pre-training: our loop against a plain one in the same run, and where our step's time goes.

    python bench/bench_pretrain.py --config config/demo.yaml --threads 1 --output results/bench/pretrain.csv

The plain loop is what one would write first, and computes the same method: torchvision's transforms image by image on
the CPU, one forward pass per view, attention from its parts, AdamW and the momentum update parameter by parameter.
Both take turns, a few steps each, so that other load on the machine meets both; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torchvision.transforms import v2
from tqdm import tqdm

from cl_vs_mim.artifacts import row_head, with_head, write_table
from cl_vs_mim.config import Model, View, load_study
from cl_vs_mim.errors import run_cli
from cl_vs_mim.pretrain import loop
from cl_vs_mim.pretrain.moco_v3 import contrastive_loss
from cl_vs_mim.pretrain.registry import build_objective

PARTS = ("augment", "forward", "backward", "optimizer", "ema")
IMAGES = 512  # random ones, for both loops; their content costs nothing


# ------------------------------------------------------------------------------------------------
# Our loop, with a clock at each part
# ------------------------------------------------------------------------------------------------


class Ours:
    """The trainer of :mod:`cl_vs_mim.pretrain.loop` itself, its parts wrapped with clocks."""

    def __init__(self, model: Model, architecture, device: str) -> None:
        fabric = loop.make_fabric(device, model.training.precision)
        steps = max(1, IMAGES // model.training.batch_size)
        self.trainer = loop.Trainer(model, architecture, 0, steps, fabric)
        self.device = fabric.device
        size = architecture.image_size
        count = max(IMAGES, model.training.batch_size)
        self.images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8).to(self.device)
        self.seconds: dict[str, float] = defaultdict(float)
        objective, optimizer = self.trainer.objective, self.trainer.optimizer
        self.augment = self._clocked("augment", loop.augment)
        objective.forward = self._clocked("forward", objective.forward)
        objective.before_step = self._clocked("ema", objective.before_step)
        fabric.backward = self._clocked("backward", fabric.backward)
        optimizer.step = self._clocked("optimizer", optimizer.step)

    def _clocked(self, part: str, function: Callable) -> Callable:
        def call(*arguments, **options):
            self._wait()
            start = time.perf_counter()
            result = function(*arguments, **options)
            self._wait()
            self.seconds[part] += time.perf_counter() - start
            return result

        return call

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def step(self) -> None:
        original, loop.augment = loop.augment, self.augment
        try:
            with loop.deterministic_on_cpu(self.device):
                self.trainer.run_step(self.images)
        finally:
            loop.augment = original
        self._wait()


# ------------------------------------------------------------------------------------------------
# The plain loop
# ------------------------------------------------------------------------------------------------


class Plain:
    """The same methods without any of the measures that make ours fast."""

    def __init__(self, model: Model, architecture, device: str) -> None:
        self.training, self.size = model.training, architecture.image_size
        self.device = loop.make_fabric(device, "32-true").device
        self.objective = build_objective(model, architecture, 0).to(self.device)
        for module in self.objective.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
        groups = self.objective.parameter_groups(model.training.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, foreach=False)
        self.transforms = [_transform(view, self.size) for view in self.objective.views]
        to_pil = v2.ToPILImage()
        pixels = torch.randint(0, 256, (IMAGES, 3, self.size, self.size), dtype=torch.uint8)
        self.images = [to_pil(image) for image in pixels]
        self.generator = torch.Generator().manual_seed(0)

    def step(self) -> None:
        chosen = torch.randint(0, IMAGES, (self.training.batch_size,)).tolist()
        views = [
            torch.stack([transform(self.images[i]) for i in chosen]).to(self.device) for transform in self.transforms
        ]
        self.objective.train()
        loss = self._moco(*views) if len(views) == 2 else self.objective(views, self.generator).loss
        loss.backward()
        if self.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.training.clip_norm, foreach=False)
        loss.item()
        self.optimizer.step()
        self.optimizer.zero_grad()

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
    parts: list[torch.nn.Module] = [v2.RandomResizedCrop(size, view.crop_scale, view.crop_ratio)]
    if view.jitter_probability:
        jitter = v2.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
        parts.append(v2.RandomApply([jitter], view.jitter_probability))
    if view.grayscale:
        parts.append(v2.RandomGrayscale(view.grayscale))
    if view.blur is not None:
        sigma = tuple(s * size / 224 for s in view.blur.sigma)
        parts.append(v2.RandomApply([v2.GaussianBlur(5, sigma)], view.blur.probability))
    if view.solarize:
        parts.append(v2.RandomSolarize(128, view.solarize))
    parts += [v2.RandomHorizontalFlip(view.flip), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose([*parts, v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    """Time both loops for every model of the study."""
    torch.set_num_threads(arguments.threads)
    study = load_study(arguments.config)
    rows = []
    for name, model in tqdm(study.models.items(), unit="model"):
        architecture = study.architectures[model.architecture]
        loops = {"ours": Ours(model, architecture, arguments.device), "plain": Plain(model, architecture, "cpu")}
        if loops["ours"].device.type == "cuda":
            loops["plain"] = Plain(model, architecture, "cuda")
        times: dict[str, list[float]] = {key: [] for key in loops}
        for timed in (False, True):  # the first step of each warms up
            if timed:
                loops["ours"].seconds.clear()
            for _ in range(arguments.steps if timed else 1):
                for key, one in loops.items():
                    start = time.perf_counter()
                    one.step()
                    if timed:
                        times[key].append(time.perf_counter() - start)
        rate = {key: model.training.batch_size / statistics.median(values) for key, values in times.items()}
        total = sum(times["ours"])
        shares = {part: loops["ours"].seconds[part] / total for part in PARTS}
        head = row_head(study=study.study, config_hash=model.digest(), data_hash="random", device=loops["ours"].device)
        row = {
            "model": name,
            "architecture": architecture.label,
            "image_size": architecture.image_size,
            "batch_size": model.training.batch_size,
            "threads": arguments.threads,
            "steps": arguments.steps,
            "images_per_second": rate["ours"],
            "plain_images_per_second": rate["plain"],
            "ratio": rate["ours"] / rate["plain"],
            **{f"share_{part}": share for part, share in shares.items()},
            "share_rest": 1 - sum(shares.values()),
        }
        rows.append(with_head(pd.DataFrame([row]), head))
    table = pd.concat(rows, ignore_index=True)
    print(table.drop(columns=list(head)).round(3).T.to_string(header=False))
    if arguments.output is not None:
        write_table(arguments.output, table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--config", type=Path, default=Path("config/demo.yaml"))
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each loop")
    parser.add_argument("--output", type=Path, help=".csv")
    run_cli(main, parser)
