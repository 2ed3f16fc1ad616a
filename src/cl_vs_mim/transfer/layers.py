"""An encoder that is trained further: stochastic depth, and a learning rate for each of its layers."""

from __future__ import annotations

from dataclasses import replace

from timm.optim import param_groups_layer_decay
from torch import nn

from cl_vs_mim.config import Architecture
from cl_vs_mim.encoder.model import Encoder, build_encoder


def with_drop_path(encoder: Encoder, architecture: Architecture, rate: float) -> Encoder:
    """The same weights in an encoder with another stochastic depth, which is no weight but a part of the network."""
    fresh = build_encoder(architecture.spec(rate), seed=0)
    fresh.load_state_dict(encoder.state_dict())
    return fresh


def with_positions_by_block(encoder: Encoder) -> Encoder:
    """The same function in an encoder each of whose blocks has its own copy of positions that all share, if they do."""
    kind = encoder.family.by_block.get(encoder.spec.positions)
    if kind is None:
        return encoder
    fresh = build_encoder(replace(encoder.spec, positions=kind), seed=0)
    fresh.backbone.load_state_dict(encoder.family.apart(encoder.backbone.state_dict(), encoder.spec.depth))
    return fresh


def decayed_groups(module: nn.Module, encoder: Encoder, weight_decay: float, layer_decay: float) -> list[dict]:
    """Groups for the optimizer: a learning rate for each layer of ``encoder``, the full one for the rest of ``module``.

    timm's groups of the encoder: embedding lowest, then block by block; the final norm goes with the last block, which
    begins one factor below what is trained on top of it, as in BEiT's code (where the norm itself learns at the full
    rate: ``FineTuning.original_layers``). No decay on biases and norms.
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
