"""An encoder with a linear classifier, all of it trained: the pre-training loop gives views, resumption and logs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from cl_vs_mim.config import Architecture
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.pooling import pool
from cl_vs_mim.pretrain.ema import follow
from cl_vs_mim.pretrain.supervised import Supervised, SupervisedConfig
from cl_vs_mim.transfer.finetuning.settings import FineTuning
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.labels import train_on_labels
from cl_vs_mim.transfer.layers import decayed_groups, with_drop_path, with_positions_by_block

_TABLE = "relative_position_bias_table"


class FineTuned(Supervised):
    """An encoder with a linear classifier, every layer with its own learning rate (arXiv 2106.08254, Appendix)."""

    def __init__(self, encoder: Encoder, config: FineTuning, classes: int) -> None:
        parts = {name: getattr(config, name) for name in ("pooling", "mixup", "cutmix", "label_smoothing", "views")}
        super().__init__(encoder, SupervisedConfig(method="supervised", classes=classes, **parts))
        self.layer_decay, self.ema = config.layer_decay, config.ema
        self.original_layers = config.original_layers
        if config.ema is not None:
            self.mean_encoder = copy.deepcopy(encoder).requires_grad_(False)
            self.mean_head = copy.deepcopy(self.head).requires_grad_(False)

    def after_step(self, progress: float) -> None:
        """Move the running means of the weights."""
        if self.ema is not None:
            follow((self.mean_encoder, self.mean_head), (self.encoder, self.head), self.ema)

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """Those of :func:`decayed_groups`, with the top of the encoder taken out where the original has it so."""
        groups = decayed_groups(self, self.encoder, weight_decay, self.layer_decay)
        return at_full_rate(groups, self.encoder, weight_decay) if self.original_layers else groups

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), normalised -> (B, K), by the running means where there are any."""
        encoder, head = (self.encoder, self.head) if self.ema is None else (self.mean_encoder, self.mean_head)
        return head(pool(encoder(images), self.config.pooling))


def at_full_rate(groups: list[dict], encoder: Encoder, weight_decay: float) -> list[dict]:
    """The same groups, but the last norm and shared relative positions in groups of their own, at the full rate.

    Relative positions that a block has for itself keep the block's rate, and decay.

    Args:
        groups: for the optimizer, of all weights.
        encoder: whose they are.
        weight_decay: of the table of relative positions; norms have none.
    """
    top = {id(p): p for name, p in encoder.backbone.named_parameters() if name.startswith(("norm.", "rel_pos_bias."))}
    own = {id(p) for name, p in encoder.backbone.named_parameters() if name.startswith("blocks.") and _TABLE in name}
    below = [group | {"params": [p for p in group["params"] if id(p) not in top.keys() | own]} for group in groups]
    tables = [group | {"params": [p for p in group["params"] if id(p) in own]} for group in groups]
    below += [group | {"weight_decay": weight_decay} for group in tables]
    trained = [p for p in top.values() if p.requires_grad]
    above = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in (*below, *above) if group["params"]]


def build_classifier(
    encoder: Encoder, architecture: Architecture, settings: FineTuning, classes: int, seed: int
) -> FineTuned:
    """The encoder with an untrained linear layer, drawn from ``seed``."""
    with global_randomness(seed, "classifier"):
        fresh = with_drop_path(encoder, architecture, settings.training.drop_path)
        return FineTuned(with_positions_by_block(fresh) if settings.positions_by_block else fresh, settings, classes)


def train(job: Job) -> FineTuned:
    """The encoder and its classifier after training; see :func:`train_on_labels`."""
    settings: FineTuning = job.settings
    seed = job.evaluated.seed
    return train_on_labels(
        job, lambda classes: build_classifier(job.encoder, job.architecture, settings, classes, seed)
    )
