"""Randomness that is counted, not carried: every draw is a function of a seed, a purpose and a counter.

No generator lives longer than one use, so a resumed run has no state to restore, and nothing depends on how many
workers or devices share the work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive_seed(0, "order", epoch)``; the same on every machine."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose. Drawn on the CPU so that a seed means the same on every device."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


@contextmanager
def global_randomness(seed: int, *purpose: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generators inside the block and put them back afterwards.

    For code that takes no generator: the initialisers of ``torch.nn`` and timm's stochastic depth.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(seed, *purpose))
        yield
