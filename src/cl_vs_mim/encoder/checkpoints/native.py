"""Our own checkpoints: safetensors whose header carries the encoder's specification and where it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.core.untrusted import parsing, require_regular
from cl_vs_mim.encoder.checkpoints.files import described, fill_decoder, fill_encoder, read_safetensors
from cl_vs_mim.encoder.decoders import Decoder, DecoderSpec
from cl_vs_mim.encoder.model import Encoder, EncoderSpec

# One entry, because safetensors writes several in random order and equal encoders should be equal files.
_HEADER = "cl_vs_mim"
_FORMAT = 1
_DECODER = "decoder."
_Spec = TypeVar("_Spec", EncoderSpec, DecoderSpec)
_ARGUMENTS = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "num_heads": "heads",
    "layer_norm_eps": "layer_norm_eps",
}


def save_encoder(
    path: Path,
    encoder: Encoder,
    metadata: Mapping[str, Any],
    dtype: torch.dtype | None = None,
    decoder: Decoder | None = None,
) -> None:
    """Write an encoder atomically; equal arguments give equal bytes.

    Args:
        path: ``….safetensors``.
        encoder: its specification goes into the header, its tensors under timm's names into the body.
        metadata: JSON-able provenance (method, model, seed, data, commit …).
        dtype: of the file, for example ``torch.float16``; the encoder's own without it. Fixed sin-cos positions
            keep float32, being exact by definition.
        decoder: the decoder of masked image modelling, written beside the encoder under ``decoder.``.

    Raises:
        UserError: a weight is not finite in ``dtype``, or the file cannot be written.
    """
    spec = encoder.spec
    state = encoder.backbone.state_dict()
    fixed = set(encoder.family.exact(spec))
    header = {"format": _FORMAT, "spec": spec.to_dict(), "metadata": dict(metadata)}
    if decoder is not None:
        state |= {f"{_DECODER}{name}": tensor for name, tensor in decoder.state_dict().items()}
        fixed.add(f"{_DECODER}positions")
        header["decoder"] = decoder.spec.to_dict()
    tensors = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        tensors[name] = (tensor if dtype is None or name in fixed else tensor.to(dtype)).contiguous()
        if not torch.isfinite(tensors[name]).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; the encoder is not saved")
    content = save(tensors, metadata={_HEADER: json.dumps(header, sort_keys=True)})
    with atomic_path(path) as temporary:  # as bytes: save_file would make a file that only its owner can read
        temporary.write_bytes(content)


def read_header(path: Path) -> tuple[EncoderSpec, dict[str, Any]]:
    """The encoder's specification and provenance of a file of :func:`save_encoder`, without reading its tensors.

    Raises:
        UserError: the file is missing, damaged or not one of ours.
    """
    path = Path(path)
    with parsing(path, "checkpoint", "train or fetch it again"):
        require_regular(path, "checkpoint")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    header = _parse_header(path, metadata)
    return _spec_of(path, EncoderSpec, header["spec"]), header["metadata"]


def is_native(path: Path) -> bool:
    """Whether a file says of itself that :func:`save_encoder` wrote it."""
    try:
        return _HEADER in read_safetensors(path)[1]
    except UserError:
        return False


def load_native(path: Path, given: Mapping[str, float | None]) -> Encoder:
    """The encoder of a file of :func:`save_encoder`; see :func:`cl_vs_mim.encoder.checkpoints.load_encoder`."""
    tensors, metadata = read_safetensors(path)
    spec = _spec_of(path, EncoderSpec, _parse_header(path, metadata)["spec"])
    for argument, field in _ARGUMENTS.items():
        stated = getattr(spec, field)
        if given[argument] not in (None, stated):
            raise UserError(f"{path}: {argument}={given[argument]} was given, but the file states {stated}")
    return fill_encoder(path, spec, {name: value for name, value in tensors.items() if not name.startswith(_DECODER)})


def load_native_decoder(path: Path, encoder: Encoder) -> Decoder:
    """The decoder beside the encoder in a file of :func:`save_encoder`; see :func:`load_decoder`."""
    tensors, metadata = read_safetensors(path)
    header = _parse_header(path, metadata)
    if "decoder" not in header:
        raise UserError(f"{path} holds no decoder; its method has none, or it was exported without")
    spec = _spec_of(path, DecoderSpec, header["decoder"])
    inside = {name.removeprefix(_DECODER): value for name, value in tensors.items() if name.startswith(_DECODER)}
    return fill_decoder(path, encoder, spec, inside)


def _parse_header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if _HEADER not in metadata:
        raise UserError(f"{path} has no cl_vs_mim header; it is not a native checkpoint (family 'timm'?)")
    try:
        header = json.loads(metadata[_HEADER])
        if header["format"] != _FORMAT:
            raise UserError(f"{path} has format {header['format']}; this version reads format {_FORMAT}")
        parts = {name: header[name] for name in ("spec", "metadata", "decoder") if name in header}
        if not all(isinstance(parts[name], dict) for name in {"spec", "metadata", *parts}):
            raise TypeError("its parts are not mappings")
        return parts
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: its header is damaged ({error}); train or fetch the encoder again") from error


def _spec_of(path: Path, kind: type[_Spec], fields: Any) -> _Spec:
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        raise UserError(f"{path}: its specification has fields this version does not know: {', '.join(unknown)}")
    return described(path, kind, fields)
