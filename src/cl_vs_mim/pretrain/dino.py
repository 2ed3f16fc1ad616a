"""DINO: self-distillation without labels (Caron et al.; arXiv 2104.14294).

A student sees crops of all sizes, a teacher, its moving average, the two large ones; each student's distribution over
K prototypes has to match the teacher's of every other crop. Centring and sharpening keep the teacher from collapse.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.sections import Fraction
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.pretrain.distributed import mean_over_processes
from cl_vs_mim.pretrain.ema import follow, rising_momentum
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

if TYPE_CHECKING:
    from cl_vs_mim.config import Model, Study
    from cl_vs_mim.encoder.model import Encoder

_GLOBAL = 2  # crops that the teacher sees: the first two views

# ------------------------------------------------------------------------------------------------
# Configuration
# ------------------------------------------------------------------------------------------------


class DINOConfig(ObjectiveConfig):
    """DINO (Caron et al., arXiv 2104.14294): a student matches the prototypes of its moving average on other crops."""

    method: Literal["dino"]
    student_temperature: PositiveFloat = 0.1
    teacher_temperature_start: PositiveFloat = 0.04
    teacher_temperature: PositiveFloat  # after the warm-up (the original: 0.04 to 0.07)
    teacher_warmup: Fraction = 0.0  # share of training over which it rises
    center_momentum: Fraction = 0.9
    momentum: Fraction  # of the teacher at the first step; rises to 1 on a half cosine
    freeze_prototypes: Fraction = 0.0  # share of training at whose start they stand still (the original: one epoch)
    clip_each: PositiveFloat | None = None  # norm that the gradient of every parameter is clipped to, each on its own
    hidden: PositiveInt  # the original: 2048
    bottleneck: PositiveInt  # the original: 256
    prototypes: PositiveInt  # K (the original: 65536)
    views: Annotated[tuple[View, ...], Field(min_length=2)]  # two large crops, then the small ones

    def decides(self) -> dict[str, Any]:
        """``clip_each`` only where it clips."""
        return {name: value for name, value in super().decides().items() if name != "clip_each" or value is not None}

    @model_validator(mode="after")
    def _large_crops_first(self) -> DINOConfig:
        if any(view.size is not None for view in self.views[:2]):
            raise ValueError("views: the first two are the teacher's and have the encoder's image size; leave out size")
        return self

    def check(self, model: Model, study: Study) -> None:
        """Crops of several sizes need positions that can be resampled."""
        family = study.architectures[model.architecture].family
        if not FAMILIES[family].absolute:
            raise ValueError(
                "objective.method: dino takes crops of several sizes, which relative positions do not allow; "
                f"{model.architecture!r} is of family {family}"
            )


# ------------------------------------------------------------------------------------------------
# Loss and centre
# ------------------------------------------------------------------------------------------------


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy between the teacher's and the student's prototypes (arXiv 2104.14294, equation 3).

    Mean over all pairs of a crop of the teacher and another crop of the student.

    Args:
        student: (crops * B, K) logits, crop by crop; the first two crops are the teacher's.
        teacher: (2 * B, K) logits of the two large crops; no gradient goes there.
        center: (1, K), subtracted from the teacher's logits.
        student_temperature: temperature of the student's softmax.
        teacher_temperature: temperature of the teacher's softmax; lower is sharper.

    Returns:
        Scalar.

    Raises:
        ValueError: the student's crops are not whole batches of the teacher's size, or fewer than two.
    """
    batch, rest = divmod(len(teacher), _GLOBAL)
    if rest or len(student) % batch or len(student) < len(teacher):
        raise ValueError(
            f"{len(student)} rows of the student do not go with {len(teacher)} of the teacher: whole crops are needed"
        )
    with torch.autocast(student.device.type, enabled=False):
        centred = teacher.detach().float() - center.float()
        targets = (centred / teacher_temperature).softmax(-1).view(_GLOBAL, batch, -1)
        logs = (student.float() / student_temperature).log_softmax(-1).view(-1, batch, student.shape[-1])
        # (2, crops): every pair's mean over the batch; pairs of a crop with itself are left out.
        pairs = -torch.einsum("tbk,cbk->tc", targets, logs) / batch
        others = 1 - torch.eye(_GLOBAL, len(logs), device=pairs.device)
        return (pairs * others).sum() / others.sum()


@torch.no_grad()
def updated_center(center: Tensor, teacher: Tensor, momentum: float) -> Tensor:
    """The running mean of the teacher's logits over all processes: (1, K), (2 * B, K) -> (1, K)."""
    mean = mean_over_processes(teacher.float().mean(0, keepdim=True))
    return center * momentum + mean * (1 - momentum)


# ------------------------------------------------------------------------------------------------
# Head
# ------------------------------------------------------------------------------------------------


class DINOHead(nn.Module):
    """Three layers with GELU, a bottleneck of unit length, and K prototypes of unit length."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        # Weight normalisation with its length fixed at 1 (the original's norm_last_layer): a direction is all it has.
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.normal_(self.prototypes)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        code = F.normalize(self.mlp(features), dim=-1)
        return F.linear(code, F.normalize(self.prototypes, dim=-1))


# ------------------------------------------------------------------------------------------------
# Objective
# ------------------------------------------------------------------------------------------------


class DINO(Objective):
    """DINO around an encoder of the plain family.

    What is exported is the student, as for the other methods here; the original recommends its teacher, which the
    training state keeps.
    """

    Config = DINOConfig

    def __init__(self, encoder: Encoder, config: DINOConfig) -> None:
        super().__init__(encoder, config.views, config.decays)
        self.config = config
        self.head = DINOHead(encoder.spec.width, config.hidden, config.bottleneck, config.prototypes)
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("center", torch.zeros(1, config.prototypes))
        self.teacher_temperature = config.teacher_temperature_start

    def forward(self, views: list[Tensor], generator: torch.Generator | None = None) -> ObjectiveOutput:
        """Loss of two large crops and any number of others, each (B, 3, S, S). Nothing is drawn here."""
        cls = torch.cat([self.encoder.forward_any_size(crops)[:, 0] for crops in _by_size(views)])
        student = self.head(cls)
        with torch.no_grad():
            self.teacher.eval()
            teacher = self.teacher_head(self.teacher(torch.cat(views[:_GLOBAL]))[:, 0])
        loss = dino_loss(student, teacher, self.center, self.config.student_temperature, self.teacher_temperature)
        if self.training:
            self.center.copy_(updated_center(self.center, teacher, self.config.center_momentum))
        metrics = {"teacher_temperature": self.teacher_temperature, "center_norm": float(self.center.norm())}
        return ObjectiveOutput(loss, cls[: len(views[0])].detach(), metrics)

    def before_step(self, progress: float) -> None:
        config = self.config
        warm = min(1.0, progress / config.teacher_warmup) if config.teacher_warmup else 1.0
        start, end = config.teacher_temperature_start, config.teacher_temperature
        self.teacher_temperature = start + (end - start) * warm

    def after_backward(self, progress: float) -> None:
        """Clip every gradient; the prototypes stand still at first, which the original found to help the start."""
        if self.config.clip_each is not None:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    nn.utils.clip_grad_norm_(parameter, self.config.clip_each)
        if progress < self.config.freeze_prototypes:
            self.head.prototypes.grad = None

    def after_step(self, progress: float) -> None:
        """Move the teacher; its momentum rises from the configured value to 1 on a half cosine."""
        momentum = rising_momentum(self.config.momentum, progress)
        follow((self.teacher, self.teacher_head), (self.encoder, self.head), momentum)

    def no_weight_decay(self) -> set[str]:
        """Prototypes have a direction only; decay would do nothing but shrink their gradient's scale."""
        return super().no_weight_decay() | {"head.prototypes"}


def _by_size(views: list[Tensor]) -> list[Tensor]:
    """Views of one size stacked, in their order: one pass of the encoder for each size."""
    stacks: list[list[Tensor]] = []
    for view in views:
        if stacks and stacks[-1][0].shape[-1] == view.shape[-1]:
            stacks[-1].append(view)
        else:
            stacks.append([view])
    return [torch.cat(stack) for stack in stacks]


OBJECTIVE = DINO
