"""Supervised training with the DeiT recipe's parts (Touvron et al.; arXiv 2012.12877).

Mixup, CutMix and RandAugment (of the view) from torchvision, label smoothing from torch, stochastic depth from timm.
The original's random erasing and repeated augmentation are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.sections import Fraction, NonNegative
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.pooling import Pooling, pool, require_pooling
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder


class SupervisedConfig(ObjectiveConfig):
    """Classification with the parts of the DeiT recipe (Touvron et al., arXiv 2012.12877)."""

    method: Literal["supervised"]
    classes: PositiveInt  # folders of the training set
    pooling: Pooling = "mean"
    mixup: NonNegative = 0.8  # alpha; 0: none
    cutmix: NonNegative = 1.0
    label_smoothing: Fraction = 0.1
    views: tuple[View]

    def wanted_classes(self) -> int:
        """As the classifier has outputs."""
        return self.classes


class Supervised(Objective):
    """A linear classifier on the mean patch token or on CLS, trained with the encoder."""

    Config = SupervisedConfig
    needs_labels = True
    splits_batches = True

    def __init__(self, encoder: Encoder, config: SupervisedConfig) -> None:
        from torchvision.transforms import v2

        super().__init__(encoder, config.views)
        require_pooling(encoder, config.pooling)
        self.config = config
        self.head = nn.Linear(encoder.spec.width, config.classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        mixes = []
        if config.mixup > 0:
            mixes.append(v2.MixUp(alpha=config.mixup, num_classes=config.classes))
        if config.cutmix > 0:
            mixes.append(v2.CutMix(alpha=config.cutmix, num_classes=config.classes))
        self.mix = v2.RandomChoice(mixes) if mixes else None

    def forward(self, views: list[Tensor], generator: torch.Generator | None, labels: Tensor) -> ObjectiveOutput:
        """Cross-entropy of one view (B, 3, S, S) and its labels (B,) int64.

        Mixing draws from torch's global generator, which the loop seeds for each step.
        """
        (images,) = views
        targets = labels
        if self.training and self.mix is not None:
            images, targets = self.mix(images, labels)  # targets (B, K)
        tokens = self.encoder(images)
        features = pool(tokens, self.config.pooling)
        logits = self.head(features).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        right = targets if targets.ndim == 1 else targets.argmax(-1)
        accuracy = float((logits.detach().argmax(-1) == right).float().mean())
        return ObjectiveOutput(loss, features.detach(), {"train_top1": accuracy})


OBJECTIVE = Supervised
