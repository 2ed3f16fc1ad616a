"""CL + MIM: both losses on one encoder (Figure 12).

    L = (1 - weight) * L_MIM + weight * L_CL

One shared encoder, one momentum encoder, SimMIM's head and MoCo v3's heads; the masked view and the two contrastive
views are separate inputs, as in the author's pseudo-code (issue 4 of the published repository). That decoder is written
as a ViT there although SimMIM's own is one layer; which was used is UNKNOWN, and this is the one layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.sections import Fraction
from cl_vs_mim.encoder.decoders.simmim import SimMIMDecoder
from cl_vs_mim.pretrain.moco_v3 import MoCoV3, MoCoV3Config
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput
from cl_vs_mim.pretrain.simmim import SimMIM, SimMIMConfig

if TYPE_CHECKING:
    from cl_vs_mim.config import Model, Study
    from cl_vs_mim.encoder.model import Encoder


class HybridConfig(ObjectiveConfig):
    """CL + MIM (Figure 12): (1 - weight) * SimMIM + weight * MoCo v3 on one encoder."""

    method: Literal["hybrid"]
    weight: Fraction  # the paper's lambda: 0, 0.2, 0.4, 0.6, 1
    mim: SimMIMConfig
    cl: MoCoV3Config

    @model_validator(mode="after")
    def _patch_projection_is_trained(self) -> HybridConfig:
        if self.cl.freeze_patch_projection and self.weight < 1:
            raise ValueError("cl.freeze_patch_projection: SimMIM trains the patch projection; set it to false")
        return self

    def check(self, model: Model, study: Study) -> None:
        """Check both parts."""
        for key, part in (("mim", self.mim), ("cl", self.cl)):
            try:
                part.check(model, study)
            except ValueError as error:
                raise ValueError(str(error).replace("objective.", f"objective.{key}.", 1)) from error

    def decides(self) -> dict[str, Any]:
        """Of both parts, what they say themselves."""
        return super().decides() | {"mim": self.mim.decides(), "cl": self.cl.decides()}

    def mixing(self) -> float:
        """The weight."""
        return self.weight


class Hybrid(Objective):
    """SimMIM and MoCo v3 around one encoder.

    A part of weight 0 is not computed, so that a weight of 0 is SimMIM and a weight of 1 is MoCo v3, bit for bit: same
    heads from the same seed, same groups of the optimizer. In between all parameters follow SimMIM's rule of weight
    decay, the author's code being built on SimMIM's.
    """

    Config = HybridConfig

    def __init__(self, encoder: Encoder, config: HybridConfig) -> None:
        super().__init__(encoder, (*config.mim.views, *config.cl.views), config.mim.decays)
        self.weight = config.weight
        with torch.random.fork_rng(devices=[]):  # both parts draw their heads from one state
            self.mim = SimMIM(encoder, config.mim)
        self.cl = MoCoV3(encoder, config.cl)
        if self.weight == 0:
            self.cl.projector.requires_grad_(False)
            self.cl.predictor.requires_grad_(False)
        if self.weight == 1:
            self.mim.decoder.requires_grad_(False)
            self.mim.mask_token.requires_grad_(False)

    def forward(self, views: list[Tensor], generator: torch.Generator | None) -> ObjectiveOutput:
        """Weighted loss of a masked view and two contrastive ones, each (B, 3, S, S)."""
        masked, *contrastive = views
        losses, features, metrics = [], None, {}
        if self.weight < 1:
            output = self.mim([masked], generator)
            losses.append((1 - self.weight) * output.loss)
            features = output.features
            metrics["loss_mim"] = float(output.loss.detach())
        if self.weight > 0:
            output = self.cl(contrastive, generator)
            losses.append(self.weight * output.loss)
            features = output.features  # of unmasked images where there are any
            metrics |= {"loss_cl": float(output.loss.detach()), **output.metrics}
        return ObjectiveOutput(sum(losses[1:], losses[0]), features, metrics)

    def before_step(self, progress: float) -> None:
        if self.weight > 0:
            self.cl.before_step(progress)

    def export_decoder(self) -> SimMIMDecoder | None:
        return self.mim.export_decoder() if self.weight < 1 else None

    def no_weight_decay(self) -> set[str]:
        return super().no_weight_decay() | {"mim.mask_token"}

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return self.cl.parameter_groups(weight_decay) if self.weight == 1 else super().parameter_groups(weight_decay)


OBJECTIVE = Hybrid
