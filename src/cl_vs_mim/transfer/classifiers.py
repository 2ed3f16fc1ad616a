"""Classifiers that an encoder is turned into: all of it trained (fine-tuning), or one layer on top of it (probe).

Both are objectives of the pre-training loop, which gives them its views, resumption, logs and many devices.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from cl_vs_mim.config.analysis import block_index
from cl_vs_mim.config.transfer import AugmentedProbe, FineTuning
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.pooling import pool
from cl_vs_mim.pretrain.ema import follow
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput
from cl_vs_mim.pretrain.supervised import Config as SupervisedConfig
from cl_vs_mim.pretrain.supervised import Supervised


def decayed_groups(module: nn.Module, encoder: Encoder, weight_decay: float, layer_decay: float) -> list[dict]:
    """Groups for the optimizer: a learning rate for each layer of ``encoder``, the full one for the rest of ``module``.

    timm's groups of the encoder: embedding lowest, then block by block; the final norm goes with the last block, which
    begins one factor below what is trained on top of it, as in BEiT's code. No decay on biases and norms.
    """
    backbone = encoder.backbone
    groups = param_groups_layer_decay(backbone, weight_decay, backbone.no_weight_decay(), layer_decay=layer_decay)
    for group in groups:
        group["lr_scale"] *= layer_decay  # timm counts from the top of the network it sees, which has no head
    inner = {id(parameter) for parameter in encoder.parameters()}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in inner]
    groups.append({"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay})
    groups.append({"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0})
    return groups


class FineTuned(Supervised):
    """An encoder with a linear classifier, every layer with its own learning rate (arXiv 2106.08254, Appendix)."""

    def __init__(self, encoder: Encoder, config: FineTuning, classes: int) -> None:
        parts = {name: getattr(config, name) for name in ("pooling", "mixup", "cutmix", "label_smoothing", "views")}
        super().__init__(encoder, SupervisedConfig(method="supervised", classes=classes, **parts))
        self.layer_decay, self.ema = config.layer_decay, config.ema
        if config.ema is not None:
            self.mean_encoder = copy.deepcopy(encoder).requires_grad_(False)
            self.mean_head = copy.deepcopy(self.head).requires_grad_(False)

    def after_step(self, progress: float) -> None:
        """Move the running means of the weights."""
        if self.ema is not None:
            follow((self.mean_encoder, self.mean_head), (self.encoder, self.head), self.ema)

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """Those of :func:`decayed_groups`."""
        return decayed_groups(self, self.encoder, weight_decay, self.layer_decay)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), normalised -> (B, K), by the running means where there are any."""
        encoder, head = (self.encoder, self.head) if self.ema is None else (self.mean_encoder, self.mean_head)
        return head(pool(encoder(images), self.config.pooling))


class Probed(Objective):
    """A linear layer on the frozen encoder."""

    needs_labels = True

    def __init__(self, encoder: Encoder, config: AugmentedProbe, classes: int) -> None:
        super().__init__(encoder.requires_grad_(False), config.views)
        self.config, self.depth = config, block_index(config.depth, encoder.spec.depth) + 1
        self.norm = nn.BatchNorm1d(encoder.spec.width, affine=False, eps=1e-6) if config.batch_norm else nn.Identity()
        self.head = nn.Linear(encoder.spec.width, classes)
        nn.init.trunc_normal_(self.head.weight, std=config.init_std)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Probed:
        """The encoder stays as it is evaluated."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D)."""
        tokens = self.encoder.forward_blocks(self.encoder.embed(images), self.depth)
        if self.config.final_norm and self.depth == self.encoder.spec.depth:
            tokens = self.encoder.norm(tokens)
        return pool(tokens, self.config.pooling)

    def forward(self, views: list[Tensor], generator: torch.Generator | None, labels: Tensor) -> ObjectiveOutput:
        """Cross-entropy of one view (B, 3, S, S) and its labels (B,) int64."""
        (images,) = views
        features = self.features(images)
        logits = self.head(self.norm(features)).float()
        accuracy = float((logits.detach().argmax(-1) == labels).float().mean())
        return ObjectiveOutput(F.cross_entropy(logits, labels), features, {"train_top1": accuracy})

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), normalised -> (B, K)."""
        return self.head(self.norm(self.features(images)))
