"""Probes in a file: those of all depths, poolings and kinds of label of an encoder, and reading one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from cl_vs_mim.config.analysis import Probe as ProbeSettings
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.core.untrusted import parsing, require_regular
from cl_vs_mim.encoder.pooling import POOLINGS
from cl_vs_mim.transfer.linear_probe.fitting import Standardisation
from cl_vs_mim.transfer.linear_probe.selection import Choice

_HEADER, _FORMAT = "cl_vs_mim_probes", 1  # one entry: safetensors writes several in random order


@dataclass(frozen=True)
class Probe:
    """One chosen probe: features of its depth and pooling in, a logit for each class out."""

    classes: tuple[str, ...]
    learning_rate: float
    final_norm: bool  # whether the encoder's last LayerNorm comes before the pooling
    mean: Tensor  # (D,)
    scale: Tensor  # (D,)
    weight: Tensor  # (K, D)
    bias: Tensor  # (K,)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, D), as :func:`cl_vs_mim.encoder.pooling.pool` gives them -> (B, K), on the same device."""
        mean, scale, weight, bias = (
            part.to(features.device) for part in (self.mean, self.scale, self.weight, self.bias)
        )
        return torch.nn.functional.linear((features.float() - mean) * scale, weight, bias)


def save_probes(
    path: Path,
    choices: Mapping[str, Choice],
    classes: Mapping[str, tuple[str, ...]],
    standard: Standardisation,
    settings: ProbeSettings,
    metadata: Mapping[str, Any],
) -> None:
    """Write the chosen probes of all depths, poolings and kinds of label atomically; equal arguments, equal bytes."""
    split = (-1, len(POOLINGS))  # S = (L+1) x poolings
    tensors = {name: part.cpu().unflatten(0, split) for name, part in standard._asdict().items()}  # (L+1, 2, D)
    rates = np.array(settings.learning_rates)
    header: dict[str, Any] = {"format": _FORMAT, "poolings": POOLINGS, "final_norm": settings.final_norm}
    header |= {"metadata": dict(metadata), "labels": {}}
    for kind, choice in choices.items():
        tensors[f"{kind}.weight"] = choice.maps.weight.squeeze(1).unflatten(0, split)  # (L+1, 2, K, D)
        tensors[f"{kind}.bias"] = choice.maps.bias.squeeze(1).unflatten(0, split)
        chosen = rates[choice.rate].reshape(split).tolist()
        header["labels"][kind] = {"classes": classes[kind], "learning_rates": chosen}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={_HEADER: json.dumps(header, sort_keys=True)}))


def load_probe(path: Path, labels: str, depth: int, pooling: str) -> Probe:
    """One probe of a file of :func:`save_probes`.

    Args:
        path: ``….safetensors``.
        labels: ``class`` or ``category``.
        depth: 0 (embedding) … L.
        pooling: ``cls`` or ``mean``.

    Raises:
        UserError: the file is missing, damaged or of something else, or holds no such probe.
    """
    with parsing(path, "", "fit the probes again"):
        require_regular(path, "checkpoint")
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get(_HEADER)
            if stated is None:
                raise UserError(f"{path} holds no probes")
            header = json.loads(stated)
            if header["format"] != _FORMAT:
                raise UserError(f"{path} has format {header['format']}; this version reads format {_FORMAT}")
            if labels not in header["labels"]:
                raise UserError(f"{path} has probes of {', '.join(header['labels'])}, none of {labels!r}")
            depths = file.get_slice("mean").get_shape()[0]
            if not 0 <= depth < depths or pooling not in header["poolings"]:
                known = f"depths 0 … {depths - 1}, poolings {', '.join(header['poolings'])}"
                raise UserError(f"{path} has no probe of depth {depth}, {pooling!r}; it has {known}")
            place = header["poolings"].index(pooling)
            names = ("mean", "scale", f"{labels}.weight", f"{labels}.bias")
            parts = [file.get_slice(name)[depth, place] for name in names]
        kind = header["labels"][labels]
        probe = Probe(tuple(kind["classes"]), kind["learning_rates"][depth][place], header["final_norm"], *parts)
        shapes = [(probe.weight.shape[1],)] * 2 + [probe.weight.shape, (len(probe.classes),)]
        if [part.shape for part in parts] != shapes or not all(part.dtype == torch.float32 for part in parts):
            raise ValueError("its tensors are not those of probes with these classes")
        return probe
