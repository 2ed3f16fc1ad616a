"""What the training loop knows of a method: views in, a loss out, and a hook around every step.

A method is one module: its ``Config`` (see :mod:`cl_vs_mim.config.objective`), a subclass of :class:`Objective`, and
``OBJECTIVE`` bound to that. The module may import torch at its top; timm and torchvision it imports where they are
used, because reading a configuration imports it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.decoders import Decoder

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder


class ObjectiveOutput(NamedTuple):
    """What one forward pass gives the loop."""

    loss: Tensor  # scalar
    features: Tensor  # (B, D) detached image features, for the collapse monitor
    metrics: dict[str, float]  # further columns of the log; the same keys at every step


class Objective(nn.Module, ABC):
    """A pre-training method around the encoder that it leaves behind.

    Subclasses build their heads in ``__init__`` and implement :meth:`forward`. Everything that must survive a kill
    belongs in parameters or buffers: the training state is ``state_dict()``, the optimizer's, and the step.

    Attributes:
        Config: the keys of the section ``objective`` of the YAML.
        encoder: what is trained, and what is exported at the end.
        views: how the augmented views are drawn; :meth:`forward` gets as many tensors.
        decays: last parts of the names of tensors that decay although :meth:`no_weight_decay` names them.
        needs_labels: whether :meth:`forward` takes the classes of the images, (B,) int64, as a third argument.
        splits_batches: whether the loss of a batch is the mean of the losses of its parts, so that gradients may be
            accumulated; not where images of a batch are compared with each other.
    """

    Config: ClassVar[type[ObjectiveConfig]]
    needs_labels: ClassVar[bool] = False
    splits_batches: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, views: tuple[View, ...], decays: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.decays = decays

    @abstractmethod
    def forward(self, views: list[Tensor], generator: torch.Generator, *args: Any, **kwargs: Any) -> ObjectiveOutput:
        """One batch: a list of (B, 3, S, S) normalised views, and a CPU generator for what the method draws.

        What follows is left to the subclass: the classes of the images where :attr:`needs_labels` says so.
        """

    def attach(self, encoder: Encoder, decoder: Decoder | None) -> None:
        """Take the model that the method needs (see :meth:`ObjectiveConfig.needs`), before training.

        Args:
            encoder: that model's trained encoder.
            decoder: what was exported beside it, where the method asks for that.

        Raises:
            ValueError: the method needs none, or this model is not of the kind that it needs.
        """
        raise ValueError(f"{type(self).__name__} needs no other model")

    def before_step(self, progress: float) -> None:
        """Called before every forward pass; ``progress`` is the share of all steps that are done, 0 … 1."""

    def after_backward(self, progress: float) -> None:
        """Called when gradients are there, before they are clipped."""

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step."""

    def export_decoder(self) -> Decoder | None:
        """What turns tokens into pixels, to be saved beside the encoder; None where the method has no such part."""
        return None

    def no_weight_decay(self) -> set[str]:
        """Names of matrices that are no weights: tokens, positions and tables of relative positions."""
        return {f"encoder.backbone.{name}" for name in self.encoder.backbone.no_weight_decay()}

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for AdamW: no decay on biases, norms and what :meth:`no_weight_decay` names, less :attr:`decays`."""
        from timm.optim import param_groups_weight_decay

        spared = {name for name in self.no_weight_decay() if name.rpartition(".")[2] not in self.decays}
        return param_groups_weight_decay(self, weight_decay, no_weight_decay_list=spared)
