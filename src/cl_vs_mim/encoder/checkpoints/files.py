"""Opening a checkpoint without running any of its code, and filling an encoder with its tensors, all of them."""

from __future__ import annotations

import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.encoder.decoders import Decoder, DecoderSpec, build_decoder
from cl_vs_mim.encoder.model import Encoder, EncoderSpec, build_encoder

# ------------------------------------------------------------------------------------------------
# Reading
# ------------------------------------------------------------------------------------------------


class _StandIn:
    """What a pickled settings object becomes: an inert dictionary, whatever its class would have done.

    torch's restricted unpickler fills ``OrderedDict`` both by items and by attributes, and nothing else by both.
    """

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


# The settings objects that the official checkpoints carry beside their tensors (MAE, BEiT; SimMIM).
_STAND_INS = [(_StandIn, "argparse.Namespace"), (_StandIn, "yacs.config.CfgNode")]
_FETCH_AGAIN = "it is probably truncated or damaged; fetch it again, or rebuild it"


def verify_sha256(path: Path, expected: str) -> None:
    """Raise :class:`UserError` unless the file's content has this hex digest."""
    actual = sha256_file(path)
    if actual != expected.lower():
        raise UserError(f"{path} has sha256 {actual}, not the expected {expected}; delete it and fetch it again")


def read_pickle(path: Path, verified: bool = False) -> Any:
    """What ``torch.save`` wrote, restricted to tensors and plain data.

    Args:
        path: a zip archive of torch, or the older format.
        verified: the content is known to be whole; without it the archive's own checksums are compared, which
            torch itself does not do.

    Raises:
        UserError: the file is damaged, or asks for a class or function that is not on the list of harmless ones.
    """
    try:
        archive = zipfile.is_zipfile(path)
        damaged = None if verified or not archive else _damaged_member(path)
        if damaged is None:
            with torch.serialization.safe_globals(_STAND_INS):  # mmap: optimizer states are never read into memory
                return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # garbage can fail in the unpickler in any way
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, UnpicklingError) and refused:
            raise UserError(
                f"{path} is refused: it asks to call {refused[1]}, which is not on the list of harmless types, "
                "so opening it could run code"
            ) from error
        raise UserError(f"{path} is not a checkpoint that can be read safely; {_FETCH_AGAIN}") from error
    raise UserError(f"{path} is damaged: the checksum of {damaged} does not match; {_FETCH_AGAIN}")


def _damaged_member(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header's metadata.

    Raises:
        UserError: the file is not safetensors, or is cut short.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); {_FETCH_AGAIN}") from error


# ------------------------------------------------------------------------------------------------
# Filling
# ------------------------------------------------------------------------------------------------


def fill_encoder(path: Path, spec: EncoderSpec, tensors: Mapping[str, Tensor]) -> Encoder:
    """An encoder of this specification with these tensors (timm's names), in float32 and evaluation mode.

    Raises:
        UserError: names or shapes differ from what the specification asks for (all of them are listed), or a
            tensor holds values that are not finite.
    """
    encoder = build_encoder(spec, seed=0)
    _fill(path, encoder.backbone, tensors)
    return encoder.eval()


def fill_decoder(path: Path, encoder: Encoder, spec: DecoderSpec, tensors: Mapping[str, Tensor]) -> Decoder:
    """The decoder of this specification behind ``encoder``, with these tensors; errors as of :func:`fill_encoder`."""
    with torch.random.fork_rng(devices=[]):
        decoder = build_decoder(encoder.spec, spec)
    _fill(path, decoder, tensors)
    return decoder.eval().requires_grad_(False)


def _fill(path: Path, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    require_same_tensors(path, {name: value.shape for name, value in module.state_dict().items()}, tensors)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; the checkpoint is of no use")
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=True)


def require_same_tensors(path: Path, wanted: Mapping[str, torch.Size], found: Mapping[str, Tensor]) -> None:
    """Raise :class:`UserError` with the full difference unless names and shapes agree."""
    missing = [f"- {name} {tuple(shape)}" for name, shape in wanted.items() if name not in found]
    unexpected = [f"+ {name} {tuple(tensor.shape)}" for name, tensor in found.items() if name not in wanted]
    changed = [
        f"~ {name}: {tuple(found[name].shape)} in the file, {tuple(shape)} in the model"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    if missing or unexpected or changed:
        lines = "\n  ".join([*missing, *unexpected, *changed])
        raise UserError(
            f"{path} does not hold the tensors of the model "
            f"(- missing in the file, + not known to the model, ~ other shape):\n  {lines}"
        )
