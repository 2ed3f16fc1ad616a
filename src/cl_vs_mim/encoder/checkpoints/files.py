"""Opening a checkpoint without running any of its code, and filling an encoder with its tensors, all of them."""

from __future__ import annotations

import mmap
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.untrusted import reason, require_regular
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


# The settings objects that published checkpoints carry beside their tensors (MAE, BEiT; SimMIM; Lightning).
_STAND_INS = [
    (_StandIn, name)
    for name in (
        "argparse.Namespace",
        "yacs.config.CfgNode",
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    )
]
_FETCH_AGAIN = "it is probably truncated or damaged; fetch it again, or rebuild it"


_MEMBERS = 100_000  # of an archive; a checkpoint has one for each tensor
_LISTED = 40  # differences in an error
_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_Spec = TypeVar("_Spec")


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
        archive = require_harmless(path)
        damaged = None if verified or not archive else _damaged_member(path)
        if damaged is None:
            with torch.serialization.safe_globals(_STAND_INS):  # mmap: optimizer states are never read into memory
                return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except UserError:
        raise
    except Exception as error:  # garbage can fail in the unpickler in any way
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, UnpicklingError) and refused:
            raise UserError(
                f"{path} is refused: it asks to call {refused[1]}, which is not on the list of harmless types, "
                "so opening it could run code"
            ) from error
        raise UserError(f"{path} is not a checkpoint that can be read safely; {_FETCH_AGAIN}") from error
    raise UserError(f"{path} is damaged: the checksum of {damaged} does not match; {_FETCH_AGAIN}")


def require_harmless(path: Path) -> bool:
    """Refuse a file of torch that would take more memory than it is; returns whether it is a zip archive.

    Raises:
        UserError: it is no ordinary file, too large, compressed, or holds what may claim any memory.
    """
    size = require_regular(path, "checkpoint")
    archive = _is_archive(path)
    if archive:
        _require_stored(path, size)
    _require_small_objects(path)
    return archive


def _is_archive(path: Path) -> bool:
    """Whether it is a zip archive; torch looks at the beginning, Python at the end, and both must agree."""
    with path.open("rb") as stream:
        begins = stream.read(4) == b"PK\x03\x04"
    if begins != zipfile.is_zipfile(path):
        raise UserError(f"{path} is half an archive; {_FETCH_AGAIN}")
    return begins


def _require_stored(path: Path, size: int) -> None:
    """Refuse an archive that would unpack to more than it is: torch stores every member as it is."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    packed = next((one for one in members if one.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise UserError(
            f"{path} is refused: its member {packed.filename!r:.100} is compressed, as torch never writes it and a "
            "decompression bomb is; load it where you trust it, and save it again with torch.save"
        )
    if len(members) > _MEMBERS or sum(one.file_size for one in members) > size:
        raise UserError(f"{path} is refused: its table of contents declares more than the file holds; {_FETCH_AGAIN}")


def _require_small_objects(path: Path) -> None:
    """Refuse the one harmless type that fills memory of any size from a few bytes: ``bytearray(10**12)``."""
    with path.open("rb") as stream:
        if not stream.read(1):
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"bytearray") >= 0:
                raise UserError(
                    f"{path} is refused: it holds a bytearray, which no encoder does and which may claim any memory"
                )


def _damaged_member(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header's metadata.

    Raises:
        UserError: the file is not safetensors, or is cut short.
    """
    require_regular(path, "checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # garbage can fail in the parser in any way
        raise UserError(f"{path} is not a readable safetensors file ({reason(error)}); {_FETCH_AGAIN}") from error


def require_backed(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that claim more than the file holds, or are no ordinary arrays of numbers.

    Raises:
        UserError: naming the tensor.
    """
    total = 0
    for name, tensor in tensors.items():
        kind = _unusual(tensor)
        if kind:
            raise UserError(f"{path}: {name} is {kind}; save the checkpoint with ordinary dense tensors")
        claimed = tensor.numel() * tensor.element_size()
        total += claimed
        if claimed > tensor.untyped_storage().nbytes():
            raise UserError(f"{path}: {name} claims {tuple(tensor.shape)} values, more than the file holds for it")
    if total > 2 * path.stat().st_size + 1_000_000:  # a few may share their values
        raise UserError(f"{path}: its tensors claim {total / 1e9:.1f} GB, more than the file holds")


def _unusual(tensor: Tensor) -> str:
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_meta:
        return "a meta tensor, which has no values"
    if tensor.is_quantized:
        return f"quantised ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.is_nested or type(tensor) not in (Tensor, nn.Parameter):
        return f"of type {type(tensor).__name__}"
    return ""


def described(path: Path, kind: type[_Spec], fields: Mapping[str, Any]) -> _Spec:
    """The specification with these fields, which a file states or its tensors tell.

    Raises:
        UserError: one is missing, unknown or out of range, or they contradict each other.
    """
    try:
        return kind(**fields)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} describes no encoder that can be built ({error}); train or fetch it again") from error


# ------------------------------------------------------------------------------------------------
# Filling
# ------------------------------------------------------------------------------------------------


def fill_encoder(path: Path, spec: EncoderSpec, tensors: Mapping[str, Tensor]) -> Encoder:
    """An encoder of this specification with these tensors (timm's names), in float32 and evaluation mode.

    Raises:
        UserError: names or shapes differ from what the specification asks for (all of them are listed), or a
            tensor holds values that are not finite.
    """
    _require_tensors(path, lambda: build_encoder(spec, seed=0).backbone, tensors)
    encoder = build_encoder(spec, seed=0)
    _fill(path, encoder.backbone, tensors)
    return encoder.eval()


def fill_decoder(path: Path, encoder: Encoder, spec: DecoderSpec, tensors: Mapping[str, Tensor]) -> Decoder:
    """The decoder of this specification behind ``encoder``, with these tensors; errors as of :func:`fill_encoder`."""
    _require_tensors(path, lambda: build_decoder(encoder.spec, spec), tensors)
    with torch.random.fork_rng(devices=[]):
        decoder = build_decoder(encoder.spec, spec)
    _fill(path, decoder, tensors)
    return decoder.eval().requires_grad_(False)


def _require_tensors(path: Path, build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Hold names, shapes and types against the module before any of it is allocated.

    A family or decoder of a user's own that cannot be built without memory is compared when it is built.
    """
    require_backed(path, tensors)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            wanted = build().state_dict()
    except UserError as error:  # there is no decoder of the name that the file states
        raise UserError(f"{path}: {error}") from error
    except RuntimeError:  # of torch, without memory
        return
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} describes what cannot be built ({type(error).__name__}: {reason(error)}); train or fetch it again"
        ) from error
    require_same_tensors(path, {name: value.shape for name, value in wanted.items()}, tensors)


def _fill(path: Path, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    wanted = module.state_dict()
    require_same_tensors(path, {name: value.shape for name, value in wanted.items()}, tensors)
    values = {}
    for name, tensor in tensors.items():
        if not wanted[name].is_floating_point():
            values[name] = tensor
            continue
        if tensor.dtype not in _NUMBERS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(f"{path}: {name} is of type {kind}; weights are float32, float16, bfloat16 or float64")
        values[name] = tensor.float()
        if not torch.isfinite(values[name]).all():
            what = "values beyond float32" if torch.isfinite(tensor).all() else "NaN or infinite values"
            raise UserError(f"{path}: {name} holds {what}; the checkpoint is of no use")
    module.load_state_dict(values, strict=True)


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
        found_out = [*missing, *unexpected, *changed]
        more = [f"… and {len(found_out) - _LISTED} more"] if len(found_out) > _LISTED else []
        lines = "\n  ".join(found_out[:_LISTED] + more)
        raise UserError(
            f"{path} does not hold the tensors of the model "
            f"(- missing in the file, + not known to the model, ~ other shape):\n  {lines}"
        )
