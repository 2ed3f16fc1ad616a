"""What a pre-training method puts behind the encoder: tokens in, pixels out. One module a decoder.

A module here binds its class to ``DECODER`` and is found by its name, which the header of a native checkpoint states
(``mae``, ``simmim``, ``vq``). Your own decoder comes from an installed package, as an entry point of the group
``cl_vs_mim.decoder``; it may be in the module of the objective that trains it.

Shapes: B images, N patches of P x P pixels, D channels of the encoder, W of the decoder. Token 0 is CLS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cl_vs_mim.core.registry import Register
from cl_vs_mim.encoder.spec import MAX_DEPTH, MAX_RATIO, MAX_WIDTH, EncoderSpec, require_number, require_whole

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder

_MAX_CODES = 1_000_000

DECODERS = Register("decoder", "cl_vs_mim.encoder.decoders", "DECODER")


@dataclass(frozen=True)
class DecoderSpec:
    """Which decoder, and its sizes; the header of a native checkpoint holds it. A decoder reads what concerns it."""

    method: str  # the module's name
    width: int = 0  # of MAE's blocks, or of a tokenizer's codes
    depth: int = 0
    heads: int = 0
    mlp_ratio: float = 4.0
    norm_pix: bool = False  # it predicts patches with mean 0 and variance 1
    codes: int = 0  # entries of a tokenizer's codebook

    def __post_init__(self) -> None:
        """Raise ValueError for a field out of range: it may come from the header of any file."""
        for name, most in (("width", MAX_WIDTH), ("depth", MAX_DEPTH), ("heads", MAX_WIDTH), ("codes", _MAX_CODES)):
            require_whole(name, getattr(self, name), 0, most)
        require_number("mlp_ratio", self.mlp_ratio, 1e-6, MAX_RATIO)
        if not isinstance(self.method, str) or not isinstance(self.norm_pix, bool):
            raise ValueError(f"method should be a name and norm_pix true or false, not {self.method!r:.80}")
        if self.heads and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")

    def to_dict(self) -> dict[str, object]:
        """The specification as plain data."""
        return asdict(self)


class Decoder(nn.Module, ABC):
    """Base of all decoders, which are built from the two specifications alone.

    Attributes:
        spec: which decoder it is, and its sizes.
        blocks: only where it is a stack of equal blocks, a list of them, which a training with ``compile`` fuses.
    """

    def __init__(self, encoder: EncoderSpec, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def reconstruct(self, encoder: Encoder, images: Tensor, mask: Tensor) -> Tensor:
        """What it paints: (B, 3, S, S) normalised images, (B, grid, grid) mask -> (B, 3, S, S), all patches."""

    @torch.no_grad()
    def states(self, tokens: Tensor, visible: Tensor | None = None) -> list[Tensor]:
        """Its own tokens after every half block (B, 1+N, W); none where it has no blocks (Figure 11).

        Args:
            tokens: (B, 1+V, D) the encoder's last ones.
            visible: (B, V) positions of the V patches on the grid; None: all N, in order.
        """
        return []


def build_decoder(encoder: EncoderSpec, spec: DecoderSpec) -> Decoder:
    """An untrained decoder; its weights are drawn from torch's global generator.

    Raises:
        UserError: there is no decoder of this name.
    """
    return DECODERS[spec.method](encoder, spec)
