"""Our own checkpoints: safetensors whose header carries the encoder's specification and where it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cl_vs_mim.artifacts import atomic_path
from cl_vs_mim.checkpoints.files import fill_encoder, read_safetensors
from cl_vs_mim.encoder import Encoder, EncoderSpec
from cl_vs_mim.errors import UserError

# One entry, because safetensors writes several in random order and equal encoders should be equal files.
_HEADER = "cl_vs_mim"
_FORMAT = 1
_ARGUMENTS = {"img_size": "image_size", "patch_size": "patch_size", "num_heads": "heads"}


def save_encoder(path: Path, encoder: Encoder, metadata: Mapping[str, Any], dtype: torch.dtype | None = None) -> None:
    """Write an encoder atomically; equal arguments give equal bytes.

    Args:
        path: ``….safetensors``.
        encoder: its specification goes into the header, its tensors under timm's names into the body.
        metadata: JSON-able provenance (method, model, seed, data, commit …).
        dtype: of the file, for example ``torch.float16``; the encoder's own without it. Fixed sin-cos positions
            keep float32, being exact by definition.

    Raises:
        UserError: a weight is not finite in ``dtype``, or the file cannot be written.
    """
    spec = encoder.spec
    tensors = {}
    for name, tensor in encoder.backbone.state_dict().items():
        fixed = name == "pos_embed" and spec.positions == "sincos"
        tensor = tensor.detach().cpu()
        tensors[name] = (tensor if dtype is None or fixed else tensor.to(dtype)).contiguous()
        if not torch.isfinite(tensors[name]).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; the encoder is not saved")
    header = json.dumps({"format": _FORMAT, "spec": spec.to_dict(), "metadata": dict(metadata)}, sort_keys=True)
    with atomic_path(path) as temporary:  # as bytes: save_file would make a file that only its owner can read
        temporary.write_bytes(save(tensors, metadata={_HEADER: header}))


def read_header(path: Path) -> tuple[EncoderSpec, dict[str, Any]]:
    """Specification and provenance of a file of :func:`save_encoder`, without reading its tensors.

    Raises:
        UserError: the file is missing, damaged or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _parse_header(Path(path), file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); train or fetch it again") from error


def load_native(path: Path, given: Mapping[str, int | None]) -> Encoder:
    """The encoder of a file of :func:`save_encoder`; see :func:`cl_vs_mim.checkpoints.load_encoder`."""
    tensors, metadata = read_safetensors(path)
    spec, _ = _parse_header(path, metadata)
    for argument, field in _ARGUMENTS.items():
        stated = getattr(spec, field)
        if given[argument] not in (None, stated):
            raise UserError(f"{path}: {argument}={given[argument]} was given, but the file states {stated}")
    return fill_encoder(path, spec, tensors)


def _parse_header(path: Path, metadata: Mapping[str, str]) -> tuple[EncoderSpec, dict[str, Any]]:
    if _HEADER not in metadata:
        raise UserError(f"{path} has no cl_vs_mim header; it is not a native checkpoint (family 'timm'?)")
    try:
        header = json.loads(metadata[_HEADER])
        if header["format"] != _FORMAT:
            raise UserError(f"{path} has format {header['format']}; this version reads format {_FORMAT}")
        known = {field.name for field in dataclasses.fields(EncoderSpec)}
        unknown = sorted(set(header["spec"]) - known)
        if unknown:
            raise UserError(f"{path}: its specification has fields this version does not know: {', '.join(unknown)}")
        return EncoderSpec(**header["spec"]), header["metadata"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its header is damaged ({error}); train or fetch the encoder again") from error
