"""What is measured, as pure functions on tensors; :mod:`.register` says which table each goes into.

The names of the public interface are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_vs_mim.metrics.attention import (
        attention_distance,
        attention_entropy,
        normalized_mutual_information,
        query_similarity,
    )
    from cl_vs_mim.metrics.diversity import depth_similarity, head_similarity, token_similarity
    from cl_vs_mim.metrics.fourier import relative_log_amplitude
    from cl_vs_mim.metrics.similarity import effective_rank, linear_cka
    from cl_vs_mim.metrics.spectrum import image_log_singular_values, token_log_singular_values

_MODULES = {
    "attention_distance": "attention",
    "attention_entropy": "attention",
    "normalized_mutual_information": "attention",
    "query_similarity": "attention",
    "depth_similarity": "diversity",
    "head_similarity": "diversity",
    "token_similarity": "diversity",
    "relative_log_amplitude": "fourier",
    "effective_rank": "similarity",
    "linear_cka": "similarity",
    "image_log_singular_values": "spectrum",
    "token_log_singular_values": "spectrum",
}
__all__ = [
    "attention_distance",
    "attention_entropy",
    "depth_similarity",
    "effective_rank",
    "head_similarity",
    "image_log_singular_values",
    "linear_cka",
    "normalized_mutual_information",
    "query_similarity",
    "relative_log_amplitude",
    "token_log_singular_values",
    "token_similarity",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
