"""The encoder: all families of ViTs behind one interface, decoders, masks, other grids, checkpoints.

The names of the public interface are imported when they are first used, so that reading a configuration, which needs
:mod:`.spec` only, does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import BlockTrace, Encoder, build_encoder, sincos_positions
    from cl_vs_mim.encoder.spec import EncoderSpec

__all__ = ["BlockTrace", "Encoder", "EncoderSpec", "build_encoder", "sincos_positions"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{'spec' if name == 'EncoderSpec' else 'model'}")
    return getattr(module, name)
