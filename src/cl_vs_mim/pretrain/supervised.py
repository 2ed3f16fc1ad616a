"""Supervised training with the DeiT recipe's parts (Touvron et al.; arXiv 2012.12877).

Mixup, CutMix and RandAugment (of the view) from torchvision, label smoothing from torch, stochastic depth from timm.
The original's random erasing and repeated augmentation are left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from cl_vs_mim.config import SupervisedObjective
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput


class Supervised(Objective):
    """A linear classifier on the mean patch token or on CLS, trained with the encoder."""

    needs_labels = True
    splits_batches = True

    def __init__(self, encoder: Encoder, config: SupervisedObjective) -> None:
        super().__init__(encoder, config.views)
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
        features = tokens[:, 0] if self.config.pooling == "cls" else tokens[:, 1:].mean(1)
        logits = self.head(features).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        right = targets if targets.ndim == 1 else targets.argmax(-1)
        accuracy = float((logits.detach().argmax(-1) == right).float().mean())
        return ObjectiveOutput(loss, features.detach(), {"train_top1": accuracy})
