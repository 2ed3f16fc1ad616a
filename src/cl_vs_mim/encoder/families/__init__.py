"""What tells one family of vision transformers from another. One module a family, found by its name.

A module here binds an instance of its class to ``FAMILY``; your own family comes from an installed package, as an
entry point of the group ``cl_vs_mim.family``. :class:`cl_vs_mim.encoder.model.Encoder`, the resampling to other grids,
the reading of published checkpoints and the backbone of dense tasks ask the family and know none by name.

Most families are a :class:`PreNormFamily`: a patch projection, a CLS token, blocks of self-attention and an MLP, each
with a LayerNorm before it and a residual around it, and a last LayerNorm, under timm's names. What may differ is how
positions enter, how queries, keys and values are made, how a residual is scaled, and how the weights are initialised. A
family that is otherwise inside, or has other tokens before the patches than CLS, is a :class:`Family`.

Shapes: B images, N patch tokens on a grid of rows x columns, P tokens before them (1: CLS, if a family says nothing
else), D channels, H heads, L blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.registry import Register

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from cl_vs_mim.encoder.spec import EncoderSpec

FAMILIES = Register("family", "cl_vs_mim.encoder.families", "FAMILY")


class Inside(NamedTuple):
    """What happens to the tokens in one block; T = P+N tokens."""

    attention: Tensor  # (B, H, T, T) softmax probabilities
    head_outputs: Tensor  # (B, H, T, D/H) attention @ values, before the output projection
    after_attention: Tensor  # (B, T, D) tokens after the attention residual
    after_mlp: Tensor  # (B, T, D) tokens after the MLP residual: the block's output


class Family(ABC):
    """Base of all families; instances hold no state, the weights are the backbone's.

    What is not abstract is answered as for a ViT with absolute positions under timm's names. A family overrides what is
    otherwise with it.

    Attributes:
        positions: the kinds of positions that a specification may ask for.
        absolute: whether positions enter once, added to the tokens, so that patches may be left out (MAE) and images
            of other sizes taken (DINO's small crops).
        by_block: kinds of positions that all blocks share -> the kind in which every block has its own, as some
            originals fine-tune; see :meth:`apart`.
        any_size: whether images of other sizes, not only squares, are taken by dense tasks.
        layer_scale: name of a tensor that only a backbone with LayerScale has.
        containers: how checkpoints of this family's own were published, beside those that
            :mod:`cl_vs_mim.encoder.checkpoints.containers` knows: name -> its ``Container``.
    """

    positions: ClassVar[tuple[str, ...]]
    absolute: ClassVar[bool] = True
    by_block: ClassVar[Mapping[str, str]] = {}
    any_size: ClassVar[bool] = True
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

    def prefix(self, backbone: nn.Module) -> tuple[str, ...]:
        """Names of the tokens before the patches, in their order; ``cls`` is CLS."""
        return ("cls",)

    # ---- embedding -------------------------------------------------------------------------------

    def patches(self, backbone: nn.Module, images: Tensor) -> Tensor:
        """Each patch projected, without position: (B, 3, rows * P, columns * P), normalised -> (B, N, D)."""
        return backbone.patch_embed.proj(images).flatten(2).transpose(1, 2)

    @abstractmethod
    def placed(self, backbone: nn.Module, patches: Tensor, rows: int, columns: int) -> Tensor:
        """Prefix tokens in front and positions added: (B, N, D) -> (B, P+N, D), what the first block takes."""

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

    def of_block(self, bias: Any, index: int) -> Any:
        """What one block takes, (1, H, 1+N, 1+N), of what :meth:`bias` gives."""
        return bias if bias is None or len(bias) == 1 else bias[index : index + 1]

    def apply(self, block: nn.Module, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """One block on fused attention: (B, 1+N, D) -> (B, 1+N, D).

        Args:
            block: one block of the backbone.
            tokens: the block's input.
            bias: what the block adds, of what :meth:`bias` gives for the tokens' grid (:meth:`of_block`).
        """
        return block(tokens)

    @abstractmethod
    def look(self, block: nn.Module, tokens: Tensor, bias: Tensor | None, heads: int) -> Inside:
        """One block computed from its parts, because fused attention never forms the maps: (B, P+N, D) -> its inside.

        Args:
            block: one block of the backbone.
            tokens: the block's input.
            bias: what the block adds, as :meth:`apply` takes it.
            heads: number of attention heads.
        """

    # ---- weights ---------------------------------------------------------------------------------

    def resized(self, name: str, value: Tensor, new: Tensor, grid: int) -> Tensor | None:
        """A tensor of the backbone's state for grid x grid patches, in the shape of ``new``.

        None: the new backbone's own is right already.
        """
        return value

    def apart(self, state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
        """A backbone's state with positions that all blocks share copied into each; of a kind in :attr:`by_block`."""
        return dict(state)

    def exact(self, spec: EncoderSpec) -> frozenset[str]:
        """Names of tensors that are exact by definition and keep float32 in a file of half precision."""
        return frozenset()

    def constants(self, spec: EncoderSpec) -> dict[str, tuple[Tensor, str]]:
        """Tensors of published files that are no weights: name -> its only right value, and what is wrong otherwise."""
        return {}

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
        if len(self.positions) > 1:
            raise UserError(f"{path}: its family does not say how positions {', '.join(self.positions)} are told apart")
        return self.positions[0]


class PreNormFamily(Family):
    """CLS first, positions added or none, and blocks with a LayerNorm before attention and MLP, in timm's names."""

    # ---- embedding -------------------------------------------------------------------------------

    def placed(self, backbone: nn.Module, patches: Tensor, rows: int, columns: int) -> Tensor:
        import torch

        cls = backbone.cls_token.expand(len(patches), -1, -1).to(patches.dtype)
        tokens = torch.cat([cls, patches], dim=1)
        positions = self.resampled_positions(backbone, rows, columns)
        return tokens if positions is None else tokens + positions

    @abstractmethod
    def resampled_positions(self, backbone: nn.Module, rows: int, columns: int) -> Tensor | None:
        """What is added to the tokens of a grid (1, 1+N, D), or None where nothing is.

        On the grid of pre-training these are the positions as they are.
        """

    # ---- blocks ----------------------------------------------------------------------------------

    def look(self, block: nn.Module, tokens: Tensor, bias: Tensor | None, heads: int) -> Inside:
        normed = block.norm1(tokens)
        q, k, v = self.queries_keys_values(block.attn, normed, heads)  # (B, H, T, D/H) each
        logits = (q * block.attn.scale) @ k.transpose(-2, -1)
        if bias is not None:
            logits = logits + bias  # before the softmax, as in training
        attention = logits.softmax(dim=-1)  # (B, H, T, T)
        head_outputs = attention @ v
        update = block.attn.proj(head_outputs.transpose(1, 2).flatten(2))
        after_attention = tokens + self.residual(block, 1, update)
        after_mlp = after_attention + self.residual(block, 2, block.mlp(block.norm2(after_attention)))
        return Inside(attention, head_outputs, after_attention, after_mlp)

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
