"""What tells one family of vision transformers from another. One module a family, found by its name.

A module here binds an instance of its class to ``FAMILY``; your own family comes from an installed package, as an
entry point of the group ``cl_vs_mim.family``. :class:`cl_vs_mim.encoder.model.Encoder`, the resampling to other grids,
the reading of published checkpoints and the backbone of dense tasks ask the family and know none by name.

All families here are made of a patch projection, a CLS token, blocks of self-attention and an MLP, each with a
LayerNorm before it and a residual around it, and a last LayerNorm, under timm's names. What may differ is how positions
enter, how queries, keys and values are made, how a residual is scaled, and how the weights are initialised.

Shapes: B images, N patch tokens on a grid of rows x columns, D channels, H heads, L blocks. Token 0 is CLS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cl_vs_mim.core.registry import Register

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from cl_vs_mim.encoder.spec import EncoderSpec

FAMILIES = Register("family", "cl_vs_mim.encoder.families", "FAMILY")


class Family(ABC):
    """Base of all families; instances hold no state, the weights are the backbone's.

    The general answers are those of a plain ViT with absolute positions under timm's names. A family overrides what is
    otherwise with it.

    Attributes:
        positions: the kinds of positions that a specification may ask for.
        absolute: whether positions enter once, added to the tokens, so that patches may be left out (MAE) and images
            of other sizes taken (DINO's small crops).
        by_block: kinds of positions that all blocks share -> the kind in which every block has its own, as some
            originals fine-tune; see :meth:`apart`.
        layer_scale: name of a tensor that only a backbone with LayerScale has.
        containers: how checkpoints of this family's own were published, beside those that
            :mod:`cl_vs_mim.encoder.checkpoints.official` knows: name -> its ``Container``.
    """

    positions: ClassVar[tuple[str, ...]]
    absolute: ClassVar[bool] = True
    by_block: ClassVar[Mapping[str, str]] = {}
    layer_scale: ClassVar[str] = "blocks.0.ls1.gamma"
    containers: ClassVar[Mapping[str, Any]] = {}

    # ---- construction ----------------------------------------------------------------------------

    def check(self, spec: EncoderSpec) -> None:
        """Compare a specification with what the family can be.

        Raises:
            ValueError: the specification contradicts itself.
        """
        if spec.positions not in self.positions:
            raise ValueError(f"family {spec.family!r} does not take positions {spec.positions!r}")

    @abstractmethod
    def build(self, spec: EncoderSpec) -> nn.Module:
        """The backbone with its initial weights, drawn from torch's global generator."""

    # ---- embedding -------------------------------------------------------------------------------

    def patches(self, backbone: nn.Module, images: Tensor) -> Tensor:
        """Each patch projected, without position: (B, 3, rows * P, columns * P), normalised -> (B, N, D)."""
        return backbone.patch_embed.proj(images).flatten(2).transpose(1, 2)

    @abstractmethod
    def resampled_positions(self, backbone: nn.Module, rows: int, columns: int) -> Tensor | None:
        """What is added to the tokens of a grid (1, 1+N, D), or None where nothing is.

        On the grid of pre-training these are the positions as they are.
        """

    # ---- blocks ----------------------------------------------------------------------------------

    def blocks(self, backbone: nn.Module) -> nn.ModuleList | nn.Sequential:
        """The blocks of a backbone, in their order."""
        return backbone.blocks

    def bias(self, backbone: nn.Module, rows: int, columns: int) -> Tensor | None:
        """What blocks add to the attention logits of a grid, or None where nothing is added.

        (1, H, 1+N, 1+N) where all blocks add the same, (L, H, 1+N, 1+N) where each has its own. On the grid of
        pre-training this is the bias as it is.
        """
        return None

    def apply(self, block: nn.Module, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """One block on fused attention: (B, 1+N, D) -> (B, 1+N, D).

        Args:
            block: one block of the backbone.
            tokens: the block's input.
            bias: what the block adds, of what :meth:`bias` gives for the tokens' grid (:func:`of_block`).
        """
        return block(tokens)

    @abstractmethod
    def queries_keys_values(self, attention: nn.Module, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """What a block's attention makes of its input: (B, 1+N, D) -> three of (B, H, 1+N, D/H), queries unscaled."""

    @abstractmethod
    def residual(self, block: nn.Module, half: int, update: Tensor) -> Tensor:
        """An update (B, 1+N, D) as it is added to the tokens, that is, with LayerScale where there is one.

        Args:
            block: one block of the backbone.
            half: 1 after attention, 2 after the MLP.
            update: what attention or the MLP gives out.
        """

    # ---- weights ---------------------------------------------------------------------------------

    def resized(self, name: str, value: Tensor, grid: int) -> Tensor | None:
        """A tensor of the backbone's state for grid x grid patches; None: the new backbone's own is right already."""
        return value

    def apart(self, state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
        """A backbone's state with positions that all blocks share copied into each; of a kind in :attr:`by_block`."""
        raise NotImplementedError

    def exact(self, spec: EncoderSpec) -> frozenset[str]:
        """Names of tensors that are exact by definition and keep float32 in a file of half precision."""
        return frozenset()

    def constants(self, spec: EncoderSpec) -> dict[str, tuple[Tensor, str]]:
        """Tensors of published files that are no weights: name -> its only right value, and what is wrong otherwise."""
        return {}

    @abstractmethod
    def read_positions(self, path: Path, tensors: Mapping[str, Tensor], grid: int, heads: int) -> str:
        """The kind of positions of a published checkpoint.

        Args:
            path: the file, for error messages.
            tensors: under timm's names.
            grid: patches along a side.
            heads: number of attention heads.

        Raises:
            UserError: the positions are missing, of another family, or of another grid or number of heads.
        """


def of_block(bias: Tensor | None, block: int) -> Tensor | None:
    """What one block adds to its attention logits (1, H, 1+N, 1+N), of what :meth:`Family.bias` gives."""
    return bias if bias is None or len(bias) == 1 else bias[block : block + 1]
