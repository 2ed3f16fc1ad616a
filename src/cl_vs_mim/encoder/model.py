"""The encoder: a vision transformer that can be looked into, every half block's tokens and every attention map.

What tells its families apart is in :mod:`cl_vs_mim.encoder.families`.

Shapes: B images, N patch tokens on a square grid, D channels, H heads, L blocks. Token 0 is CLS.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cl_vs_mim.encoder.families import FAMILIES, of_block
from cl_vs_mim.encoder.layers import layer_norm, sincos_positions
from cl_vs_mim.encoder.spec import EncoderSpec

__all__ = ["BlockTrace", "Encoder", "EncoderSpec", "build_encoder", "layer_norm", "sincos_positions"]


class BlockTrace(NamedTuple):
    """What one block does to the tokens."""

    block: int  # 0 … L-1
    before: Tensor  # (B, 1+N, D) tokens as they come in
    attention: Tensor  # (B, H, 1+N, 1+N) softmax probabilities
    head_outputs: Tensor  # (B, H, 1+N, D/H) attention @ values, before the output projection
    after_attention: Tensor  # (B, 1+N, D) tokens after the attention residual
    after_mlp: Tensor  # (B, 1+N, D) tokens after the MLP residual: the block's output


# ------------------------------------------------------------------------------------------------
# Encoder
# ------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """A ViT that can be looked into.

    ``forward`` and everything used in training run on timm's attention, which is fused (unless the trainer has it
    computed as products). :meth:`trace`, :meth:`states` and :meth:`attentions` recompute each block from its parts,
    because fused attention never forms the maps.

    Attributes:
        backbone: the network, under timm's names.
        spec: all that decides the network's function besides its weights.
        family: the architecture family, which does all that differs between families.
    """

    def __init__(self, backbone: nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        self.family = FAMILIES[spec.family]

    @property
    def blocks(self) -> nn.ModuleList | nn.Sequential:
        """The L blocks, in their order."""
        return self.family.blocks(self.backbone)

    @property
    def norm(self) -> nn.Module:
        """The LayerNorm after the last block."""
        return self.backbone.norm

    # ---- tokens ----------------------------------------------------------------------------------

    def embed(self, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """Patch and position embedding, CLS first.

        Args:
            images: (B, 3, S, S), normalised.
            mask: (B, grid, grid) in {0, 1}; patches with 1 are replaced by ``mask_token`` before positions are
                added (SimMIM, Fig. 1 of arXiv 2111.09886).
            mask_token: (1, 1, D), needed with ``mask``.

        Returns:
            (B, 1+N, D)

        Raises:
            ValueError: the images do not have the size of the encoder.
        """
        size = self.spec.image_size
        if images.shape[-2:] != (size, size):
            raise ValueError(f"this encoder takes {size}x{size} images, not {tuple(images.shape[-2:])}")
        patches = self.family.patches(self.backbone, images)  # (B, N, D)
        if mask is not None:
            assert mask_token is not None, "a mask needs a mask token"
            weight = mask.flatten(1).unsqueeze(-1).to(patches.dtype)  # (B, N, 1)
            patches = patches * (1 - weight) + mask_token.to(patches.dtype) * weight
        return self._placed(patches, self.spec.grid, self.spec.grid)

    def embed_any_size(self, images: Tensor) -> Tensor:
        """:meth:`embed` for images of any whole number of patches: (B, 3, rows * P, columns * P) -> (B, 1+N', D).

        Positions are resampled where the grid is another than that of pre-training.

        Raises:
            ValueError: a side is not whole patches.
        """
        patch, (height, width) = self.spec.patch_size, images.shape[-2:]
        if height % patch or width % patch:
            raise ValueError(f"images of {height}x{width} px are not whole patches of {patch} px")
        return self._placed(self.family.patches(self.backbone, images), height // patch, width // patch)

    def _placed(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """CLS in front and positions added: (B, N, D) -> (B, 1+N, D)."""
        cls = self.backbone.cls_token.expand(len(patches), -1, -1).to(patches.dtype)
        tokens = torch.cat([cls, patches], dim=1)
        positions = self.family.resampled_positions(self.backbone, rows, columns)
        return tokens if positions is None else tokens + positions

    def forward_tokens(self, tokens: Tensor) -> Tensor:
        """All blocks on timm's attention, then the final LayerNorm: (B, 1+N, D) -> (B, 1+N, D)."""
        return self.backbone.norm(self.forward_blocks(tokens, self.spec.depth))

    def forward_blocks(self, tokens: Tensor, count: int) -> Tensor:
        """The first ``count`` blocks on timm's attention, without the final LayerNorm: (B, 1+N, D) -> (B, 1+N, D)."""
        bias = self._bias()
        for index, block in enumerate(self.blocks[:count]):
            tokens = self.family.apply(block, tokens, of_block(bias, index))
        return tokens

    def forward(self, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """Normalised tokens of the last block: (B, 3, S, S) -> (B, 1+N, D)."""
        return self.forward_tokens(self.embed(images, mask, mask_token))

    def forward_any_size(self, images: Tensor) -> Tensor:
        """:meth:`forward` for square images of any whole number of patches: (B, 3, T, T) -> (B, 1+N', D).

        Absolute positions are resampled (bicubic), as DINO does for its small crops.

        Raises:
            ValueError: an encoder with relative positions, or a size that is not whole patches.
        """
        if images.shape[-2:] == (self.spec.image_size, self.spec.image_size):
            return self(images)
        if not self.family.absolute:
            raise ValueError("an encoder with relative positions takes images of its own size only")
        if images.shape[-2] != images.shape[-1]:
            raise ValueError(f"images {tuple(images.shape[-2:])} are not squares")
        return self.forward_tokens(self.embed_any_size(images))

    # ---- looking inside --------------------------------------------------------------------------

    @torch.no_grad()
    def trace(self, tokens: Tensor) -> Iterator[BlockTrace]:
        """Run the blocks one at a time on embedded ``tokens`` (B, 1+N, D), with the maps of each.

        A generator, so that only one block's maps are alive at a time: read a block, reduce it, let it go.
        Stochastic depth and dropout are off here whatever the module's mode.
        """
        family, bias = self.family, self._bias()
        for index, block in enumerate(self.blocks):
            normed = block.norm1(tokens)
            q, k, v = family.queries_keys_values(block.attn, normed, self.spec.heads)  # (B, H, 1+N, D/H) each
            logits = (q * block.attn.scale) @ k.transpose(-2, -1)
            if bias is not None:
                logits = logits + of_block(bias, index)  # before the softmax, as in training
            attention = logits.softmax(dim=-1)  # (B, H, 1+N, 1+N)
            head_outputs = attention @ v
            update = block.attn.proj(head_outputs.transpose(1, 2).flatten(2))
            after_attention = tokens + family.residual(block, 1, update)
            after_mlp = after_attention + family.residual(block, 2, block.mlp(block.norm2(after_attention)))
            yield BlockTrace(index, tokens, attention, head_outputs, after_attention, after_mlp)
            tokens = after_mlp

    @torch.no_grad()
    def states(self, images: Tensor) -> list[Tensor]:
        """2L+1 tensors (B, 1+N, D): the embedding, then after every attention residual and every MLP residual.

        ``states[2 * l]`` is the output of block ``l`` (1 … L); ``states[0]`` the embedding. No final LayerNorm.
        """
        states = [self.embed(images)]
        for trace in self.trace(states[0]):
            states += [trace.after_attention, trace.after_mlp]
        return states

    @torch.no_grad()
    def attentions(self, images: Tensor) -> list[Tensor]:
        """L tensors (B, H, 1+N, 1+N) of softmax probabilities. For analysis in bulk, stream :meth:`trace` instead."""
        return [trace.attention for trace in self.trace(self.embed(images))]

    def _bias(self) -> Tensor | None:
        """What blocks add to their attention logits, see :meth:`Family.bias`."""
        return self.family.bias(self.backbone, self.spec.grid, self.spec.grid)


# ------------------------------------------------------------------------------------------------
# Construction
# ------------------------------------------------------------------------------------------------


def build_encoder(spec: EncoderSpec, seed: int) -> Encoder:
    """An untrained encoder, its weights drawn from ``seed`` alone (the global generator is left as it was).

    How they are drawn is the family's matter.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = FAMILIES[spec.family].build(spec)
    return Encoder(backbone, spec)
