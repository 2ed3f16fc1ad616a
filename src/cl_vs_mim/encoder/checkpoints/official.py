"""Encoders of published checkpoints: their specification read off the tensors, and their tensors, all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints.containers import containers, encoder_tensors, recognised, some, state_dict
from cl_vs_mim.encoder.checkpoints.files import described, fill_encoder, read_pickle, read_safetensors
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.encoder.model import Encoder, EncoderSpec

# Parts that change the function of a ViT and that the families with containers do not have.
_UNSUPPORTED = {
    r"reg_token": "register tokens",
    r"dist_token|head_dist\.": "a distillation token",
    r"norm_pre\.": "a LayerNorm before the blocks (CLIP)",
    r"fc_norm\.": "a LayerNorm after the pooling instead of after the blocks (fine-tuned with mean pooling)",
    r"attn_pool\.": "attention pooling",
    r"patch_embed\.backbone\.": "a convolutional stem",
    r"blocks\.\d+\.attn\.[qk]_norm\.": "normalised queries and keys",
    r"blocks\.\d+\.mlp\.(w12|w1|fc1_g)\.": "a gated MLP",
}


def read_content(path: Path, verified: bool = False) -> Mapping[Any, Any]:
    """What a file holds, by its keys.

    Raises:
        UserError: the file is damaged, would run code, or holds no mapping.
    """
    content = read_safetensors(path)[0] if path.suffix == ".safetensors" else read_pickle(path, verified)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict")
    return content


def read_tensors(path: Path, family: str, verified: bool = False) -> dict[str, Tensor]:
    """The whole state dict of a published file, the encoder's tensors and all others, under its own names.

    Raises:
        UserError: the file is damaged or not of this family.
    """
    return state_dict(path, family, read_content(path, verified))


def load_official(
    path: Path,
    family: str,
    img_size: int,
    patch_size: int,
    num_heads: int,
    *,
    layer_norm_eps: float | None = None,
    verified: bool = False,
) -> Encoder:
    """The encoder of a published checkpoint; see :func:`cl_vs_mim.encoder.checkpoints.load_encoder`."""
    content = read_content(path, verified)
    try:
        tensors = encoder_tensors(path, family, state_dict(path, family, content))
        for pattern, part in _UNSUPPORTED.items():
            found = next((name for name in tensors if re.match(pattern, name)), None)
            if found:
                raise UserError(
                    f"{path} has {part} ({found}), as encoders of this family have not; if it is one of timm's, take "
                    "it by its tag (docs/training.md)"
                )
        spec = infer_spec(path, containers()[family].family, tensors, img_size, patch_size, num_heads)
        if layer_norm_eps is not None:
            spec = replace(spec, layer_norm_eps=layer_norm_eps)
        for name, (wanted, words) in FAMILIES[spec.family].constants(spec).items():
            found_constant = tensors.pop(name, None)
            if found_constant is not None and not torch.equal(found_constant, wanted):
                raise UserError(f"{path}: {words}")
        return fill_encoder(path, spec, tensors)
    except UserError as error:
        others = recognised(path, content)
        if family in others or not others:
            raise
        raise UserError(f"{error}\n  its form is that of format: {' or '.join(others)}") from error


def published_forms(path: Path) -> list[str]:
    """The containers that a file has the form of; none where it cannot be read."""
    try:
        return recognised(path, read_content(path))
    except UserError:
        return []


def infer_spec(
    path: Path,
    family: str,
    tensors: Mapping[str, Tensor],
    img_size: int,
    patch_size: int,
    num_heads: int,
) -> EncoderSpec:
    """The specification of an encoder, read off its tensors and checked against what was given.

    Raises:
        UserError: a tensor that tells a size is missing, or contradicts ``img_size``, ``patch_size`` or ``num_heads``.
    """

    def tensor(name: str, dimensions: int) -> Tensor:
        if name not in tensors or tensors[name].ndim != dimensions:
            raise UserError(f"{path} has no {name} with {dimensions} dimensions (found: {some(tensors)})")
        return tensors[name]

    projection = tensor("patch_embed.proj.weight", 4)
    width, channels, *kernel = projection.shape
    if channels != 3 or kernel != [patch_size, patch_size]:
        raise UserError(
            f"{path}: its patch projection takes {channels} channels of {kernel[0]}x{kernel[1]} px, "
            f"but patch_size={patch_size} was given"
        )
    if img_size % patch_size:
        raise UserError(f"{path}: img_size={img_size} is not a multiple of patch_size={patch_size}")
    if num_heads < 1 or width % num_heads:
        raise UserError(f"{path}: its width {width} cannot be divided into num_heads={num_heads}")
    grid = img_size // patch_size
    kind = FAMILIES[family]
    positions = kind.read_positions(path, tensors, grid, num_heads)
    hidden = len(tensor("blocks.0.mlp.fc1.weight", 2))
    fields = {
        "family": family,
        "image_size": img_size,
        "patch_size": patch_size,
        "width": width,
        "depth": count_blocks(path, tensors),
        "heads": num_heads,
        "mlp_ratio": _ratio(hidden, width),
        "positions": positions,
        "layer_scale": 1.0 if kind.layer_scale in tensors else None,  # its start, which trained weights no longer tell
    }
    return described(path, EncoderSpec, fields)


def count_blocks(path: Path, tensors: Mapping[str, Tensor]) -> int:
    """Blocks of which there are tensors, which must be those from 0 on.

    Raises:
        UserError: one is left out.
    """
    numbers = {match[1] for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
    odd = sorted(numbers - {str(number) for number in range(len(numbers))}, key=len)
    if odd:
        raise UserError(
            f"{path} has tensors of block {odd[-1]:.40}, but of {len(numbers)} blocks in all, which should be "
            f"0 … {len(numbers) - 1}"
        )
    return len(numbers)


def _ratio(hidden: int, width: int) -> float:
    """The MLP ratio that gives exactly this hidden width when timm multiplies and truncates."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)
