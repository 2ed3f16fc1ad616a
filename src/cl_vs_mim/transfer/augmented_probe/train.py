"""A linear layer trained on the frozen encoder and augmented images, by the loop of pre-training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_vs_mim.core.blocks import block_index
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.pooling import pool, require_pooling
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput
from cl_vs_mim.transfer.augmented_probe.settings import AugmentedProbe
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.labels import train_on_labels


class Probed(Objective):
    """A linear layer on the frozen encoder."""

    needs_labels = True

    def __init__(self, encoder: Encoder, config: AugmentedProbe, classes: int) -> None:
        super().__init__(encoder.requires_grad_(False), config.views)
        require_pooling(encoder, config.pooling)
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


def build_probe(encoder: Encoder, settings: AugmentedProbe, classes: int, seed: int) -> Probed:
    """The encoder with an untrained linear layer, drawn from ``seed``."""
    with global_randomness(seed, "classifier"):
        return Probed(encoder, settings, classes)


def train(job: Job) -> Probed:
    """The probe after training; see :func:`train_on_labels`."""
    settings: AugmentedProbe = job.settings
    return train_on_labels(job, lambda classes: build_probe(job.encoder, settings, classes, job.evaluated.seed))
