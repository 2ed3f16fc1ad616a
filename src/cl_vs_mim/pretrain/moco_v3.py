"""MoCo v3: contrastive learning of Vision Transformers (Chen, Xie, He; arXiv 2104.02057).

Two augmented views of an image; the query of one view has to find the key of the other among the keys of the batch.
Queries come from the encoder, a projector and a predictor; keys from momentum copies of encoder and projector.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.sections import Fraction
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.pooling import require_pooling
from cl_vs_mim.pretrain.distributed import gather_rows
from cl_vs_mim.pretrain.ema import follow, rising_momentum
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder

# ------------------------------------------------------------------------------------------------
# Configuration
# ------------------------------------------------------------------------------------------------


class MoCoV3Config(ObjectiveConfig):
    """MoCo v3 (Chen et al., arXiv 2104.02057): symmetrised InfoNCE against a momentum encoder."""

    method: Literal["moco_v3"]
    temperature: PositiveFloat
    momentum: Fraction  # of the momentum encoder at the first step; rises to 1 on a half cosine
    projector_hidden: PositiveInt
    output_dim: PositiveInt
    freeze_patch_projection: bool = True
    views: tuple[View, View]


# ------------------------------------------------------------------------------------------------
# Loss
# ------------------------------------------------------------------------------------------------


def contrastive_loss(q: Tensor, k: Tensor, temperature: float, offset: int = 0) -> Tensor:
    """InfoNCE of one direction (arXiv 2104.02057, Algorithm 1): the key of query ``i`` is row ``i + offset``.

    The factor 2 * temperature keeps the size of the gradient independent of the temperature. The method's loss is
    the sum over both directions, ``contrastive_loss(q1, k2, T) + contrastive_loss(q2, k1, T)``; for queries that
    know nothing it is 4 T log(M).

    Args:
        q: (B, C) queries, not normalised.
        k: (M, C) keys, not normalised; M = B times the number of processes.
        temperature: temperature of the softmax over cosine similarities.
        offset: row of the first query's key, when keys were gathered from several processes.

    Returns:
        Scalar.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k = F.normalize(q.float(), dim=1), F.normalize(k.float(), dim=1)
        logits = q @ k.T / temperature  # (B, M)
        labels = torch.arange(len(q), device=q.device) + offset
        return F.cross_entropy(logits, labels) * (2 * temperature)


# ------------------------------------------------------------------------------------------------
# Heads
# ------------------------------------------------------------------------------------------------


def _mlp(widths: list[int]) -> nn.Sequential:
    """Linear layers without bias, each followed by BatchNorm; ReLU between them; the last BatchNorm not affine."""
    layers: list[nn.Module] = []
    for index, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(width_in, width_out, bias=False))
        if index < len(widths) - 2:
            layers += [nn.BatchNorm1d(width_out), nn.ReLU(inplace=True)]
        else:
            layers.append(nn.BatchNorm1d(width_out, affine=False))
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------
# Objective
# ------------------------------------------------------------------------------------------------


class MoCoV3(Objective):
    """MoCo v3 around an encoder; what is kept at the end is the encoder, not its momentum copy.

    The encoders run once on both views together: tokens of different images never meet there. Projector and
    predictor run on each view apart, because their BatchNorms take their statistics from the batch.
    The momentum copies stay in training mode, as in the original: their BatchNorms too use the batch's statistics,
    and only parameters, not running statistics, follow the encoder.
    """

    Config = MoCoV3Config

    def __init__(self, encoder: Encoder, config: MoCoV3Config) -> None:
        super().__init__(encoder, config.views)
        require_pooling(encoder, "cls")
        hidden, out = config.projector_hidden, config.output_dim
        self.temperature = config.temperature
        self.initial_momentum = config.momentum
        self.momentum = config.momentum
        if config.freeze_patch_projection:  # section 4.1 of the paper: the random projection is stable
            encoder.backbone.patch_embed.proj.requires_grad_(False)
        self.projector = _mlp([encoder.spec.width, hidden, hidden, out])
        self.predictor = _mlp([out, hidden, out])
        self.momentum_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def forward(self, views: list[Tensor], generator: torch.Generator | None = None) -> ObjectiveOutput:
        """Symmetrised loss of two views, each (B, 3, S, S). Nothing is drawn here."""
        images = torch.cat(views)  # (2B, 3, S, S)
        cls = self.encoder(images)[:, 0]  # (2B, D)
        q1, q2 = (self.predictor(self.projector(view)) for view in cls.chunk(2))  # each (B, C)
        with torch.no_grad():
            momentum_cls = self.momentum_encoder(images)[:, 0]
            (k1, offset), (k2, _) = (gather_rows(self.momentum_projector(view)) for view in momentum_cls.chunk(2))
        loss = contrastive_loss(q1, k2, self.temperature, offset) + contrastive_loss(q2, k1, self.temperature, offset)
        return ObjectiveOutput(loss, cls[: len(views[0])].detach(), {"momentum": self.momentum})

    def before_step(self, progress: float) -> None:
        """Move the momentum copies; their momentum rises from the configured value to 1 on a half cosine."""
        self.momentum = rising_momentum(self.initial_momentum, progress)
        follow((self.momentum_encoder, self.momentum_projector), (self.encoder, self.projector), self.momentum)

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """One group: the authors' code decays every trained parameter, biases, norms and CLS token included."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "weight_decay": weight_decay}]


OBJECTIVE = MoCoV3
