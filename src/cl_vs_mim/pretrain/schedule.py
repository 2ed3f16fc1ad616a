"""Learning rate and weight decay as functions of the step: nothing to carry from step to step, nothing to restore."""

from __future__ import annotations

import math

from cl_vs_mim.config import Training


def learning_rate(step: int, steps: int, warmup: float, training: Training) -> float:
    """Linear warm-up over ``warmup`` steps, then a half cosine or a line to ``min_lr``, or steps at the milestones.

    ``step`` counts from 0; warm-up and milestones are in steps and in epochs of ``steps / training.epochs`` steps.
    """
    peak = training.base_lr * training.batch_size / training.lr_batch
    if step < warmup:
        return peak * min(1.0, (step + 1) / warmup)
    if training.schedule == "multistep":
        epoch = step / (steps / training.epochs)
        return peak * training.gamma ** sum(epoch >= milestone for milestone in training.milestones)
    progress = (step - warmup) / max(1, steps - warmup)
    left = 1 - progress if training.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return training.min_lr + (peak - training.min_lr) * left


def weight_decay(step: int, steps: int, training: Training) -> float:
    """The configured decay, or a half cosine from it to ``weight_decay_end``."""
    if training.weight_decay_end is None:
        return training.weight_decay
    start, end = training.weight_decay, training.weight_decay_end
    return end + (start - end) * (1 + math.cos(math.pi * step / max(1, steps))) / 2


def snapshot_steps(steps: int, training: Training) -> frozenset[int]:
    """Steps (from 1) after which a snapshot is due: the first at which so many images have been seen."""
    if training.snapshots is None:
        return frozenset()
    due, images = set(), float(training.snapshots.first)
    while (step := math.ceil(images / training.batch_size)) <= steps:
        due.add(step)
        images *= training.snapshots.factor
    return frozenset(due)
