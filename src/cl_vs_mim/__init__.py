"""Replication and audit of "What Do Self-Supervised Vision Transformers Learn?" (Park et al., ICLR 2023).

``load_encoder`` is imported when it is first used, so that ``import cl_vs_mim`` does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_vs_mim.encoder.checkpoints import load_encoder

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder"]


def __getattr__(name: str) -> object:
    if name != "load_encoder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cl_vs_mim.encoder.checkpoints import load_encoder

    return load_encoder
