"""Attentive probes of every depth, protocol ``attentive``: how much of an encoder a probe sees depends on the probe.

For the embedding and each block (depth 0 … L) and each kind of label, on CLS and the patch tokens together. Tokens of
all depths are too many to be kept, so the images, which are not augmented, pass the encoder once an epoch. Each
learning rate of the study is tried and the best one on training images held back is kept, as with ``cached``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.randomness import generator_for
from cl_vs_mim.core.tables import with_columns
from cl_vs_mim.evaluated import batches, depth_tokens
from cl_vs_mim.transfer.attentive_probe import AttentiveProbe
from cl_vs_mim.transfer.attentive_probe.fitting import Channels, Probes
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.linear_probe.selection import hold_back, image_rows
from cl_vs_mim.transfer.splits import Split, constant_guess, read_splits

PROTOCOL = "attentive"
POOLING = "attentive"  # in the column where other probes have cls or mean

Fitted = dict[str, list[Probes]]  # kind of label -> a depth each


def evaluate(job: Job, trained: None) -> dict[str, pd.DataFrame]:
    """The table of one encoder.

    Returns:
        ``attentive_probe``: a row per validation image, depth and kind of label, 1 where the probe is right; for
        categories also the held-out objects. ``learning_rate`` is the chosen one, ``chance`` the accuracy of always
        naming the commonest label.

    Raises:
        UserError: images or labels are missing, or a loss is not finite.
    """
    settings: AttentiveProbe = job.settings
    train, evaluated = read_splits(job.data, list(settings.labels))
    job.encoder.to(job.device)
    fitted, held = hold_back(train.index.labels, settings, job.task.section)
    channels = [Channels() for _ in range(job.encoder.spec.depth + 1)]
    for _, tokens in _tokens(job, train, fitted.numpy()):
        for one, values in zip(channels, tokens, strict=True):
            one.add(values)
    probes = _fit(job, train, fitted, channels)
    chosen = {}
    for kind, predicted in _predicted(job, train, held.numpy(), probes, channels).items():
        right = (predicted == train.labels[kind].numbers[held][:, None, None]).mean(axis=0)  # (L+1, R)
        ascending = np.argsort(settings.learning_rates)
        chosen[kind] = ascending[right[:, ascending].argmax(axis=1)]  # the smallest of equals
    rows = []
    for split in evaluated:
        wanted = {kind: probes[kind] for kind in split.labels}
        found = _predicted(job, split, np.arange(len(split.index)), wanted, channels)
        images = [f"{split.name}/{path}" for path in split.index.paths]
        for kind, predicted in found.items():
            rate = chosen[kind]
            named = np.take_along_axis(predicted, rate[None, :, None], axis=2)[:, :, 0]  # (M, L+1)
            correct = named == split.labels[kind].numbers[:, None]
            part = image_rows(correct, images, split.name, kind, probes[kind][0].bias.shape[1], (POOLING,))
            rates = np.broadcast_to(np.array(settings.learning_rates)[rate], correct.shape).ravel()
            rows.append(part.assign(learning_rate=rates, chance=constant_guess(train.labels[kind], split.labels[kind])))
    table = pd.concat(rows, ignore_index=True).astype(dict.fromkeys(("labels", "split", "image"), "category"))
    return {"attentive_probe": with_columns(table, {"metric": "top1", "protocol": PROTOCOL})}


def _fit(job: Job, train: Split, fitted: Tensor, channels: list[Channels]) -> Fitted:
    """All probes, by half a cosine without warm-up; what does not fill a batch waits for another epoch."""
    settings: AttentiveProbe = job.settings
    width, rates = job.encoder.spec.width, list(settings.learning_rates)
    probes = {
        kind: [Probes(width, len(labels.classes), rates, settings.momentum).to(job.device) for _ in channels]
        for kind, labels in train.labels.items()
    }
    for kind in probes:
        for one in probes[kind]:
            one.velocity = [velocity.to(job.device) for velocity in one.velocity]
    batch = min(settings.batch_size, len(fitted))
    steps = len(fitted) // batch
    for epoch in progress(range(settings.epochs), desc=f"attentive probes {job.evaluated.name}", unit="epoch"):
        drawn = torch.randperm(len(fitted), generator=generator_for(settings.seed, "attentive probe", epoch))
        order = fitted[drawn][: steps * batch].numpy()
        for step, (positions, tokens) in enumerate(_tokens(job, train, order, batch)):
            share = 0.5 * (1 + math.cos(math.pi * (epoch * steps + step) / (settings.epochs * steps)))
            for depth, values in enumerate(tokens):
                inputs = channels[depth].standardised(values)
                for kind, labels in train.labels.items():
                    targets = torch.from_numpy(labels.numbers[positions]).to(job.device)
                    if not math.isfinite(probes[kind][depth].step(inputs, targets, share)):
                        raise UserError(
                            f"an attentive probe of {kind} at depth {depth} has a loss that is not finite; lower the "
                            "largest of transfer.attentive_probe.learning_rates"
                        )
    return probes


@torch.no_grad()
def _predicted(
    job: Job, split: Split, positions: np.ndarray, probes: Fitted, channels: list[Channels]
) -> dict[str, np.ndarray]:
    """For each kind of label the class that each probe names, (M, L+1, R)."""
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in probes}
    for _, tokens in _tokens(job, split, positions):
        inputs = [one.standardised(values) for one, values in zip(channels, tokens, strict=True)]
        for kind, by_depth in probes.items():
            named = [one(values).argmax(dim=-1) for one, values in zip(by_depth, inputs, strict=True)]
            found[kind].append(torch.stack(named, dim=1).cpu().numpy())
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def _tokens(
    job: Job, split: Split, positions: np.ndarray, batch: int | None = None
) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    """Positions (B,) and tokens (B, 1+N, D) of each depth, batch by batch, in this order."""
    analysis, size = job.study.analysis, job.encoder.spec.image_size
    count, start = batch or analysis.batch_size, 0
    for pixels in batches(split.index, positions, size, analysis.crop_fraction, count, job.threads):
        tokens = depth_tokens(job.encoder, pixels, job.settings.final_norm)
        first = 0 if job.encoder.has_cls else 1
        yield positions[start : start + len(pixels)], [one[:, first:].float().clone() for one in tokens]
        start += len(pixels)
