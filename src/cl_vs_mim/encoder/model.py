"""The encoder: a vision transformer that can be looked into, every half block's tokens and every attention map.

What tells its families apart is in :mod:`cl_vs_mim.encoder.families`.

Shapes: B images, N patch tokens on a square grid, P prefix tokens (CLS, registers), D channels, H heads, L blocks.
Inside, blocks work on P+N tokens. All that is given out has 1+N: CLS, then the patches. Registers are left out, and the
place of CLS holds NaN in an encoder that has none, so that whoever reads it all the same is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.encoder.layers import layer_norm, sincos_positions
from cl_vs_mim.encoder.spec import EncoderSpec

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the images that are given in

__all__ = ["BlockTrace", "Encoder", "EncoderSpec", "build_encoder", "layer_norm", "sincos_positions"]


class BlockTrace(NamedTuple):
    """What one block does to the tokens."""

    block: int  # 0 … L-1
    before: Tensor  # (B, 1+N, D) tokens as they come in
    attention: Tensor  # (B, H, 1+N, 1+N) softmax probabilities; rows sum to 1 with the registers, which are left out
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
        prefix: names of the tokens in front of the patches, which have no place in the image: ``cls``, ``register 1`` …
    """

    def __init__(self, backbone: nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        self.family = FAMILIES[spec.family]
        self.prefix = self.family.prefix(backbone)

    @property
    def blocks(self) -> nn.ModuleList | nn.Sequential:
        """The L blocks, in their order."""
        return self.family.blocks(self.backbone)

    @property
    def norm(self) -> nn.Module:
        """The LayerNorm after the last block."""
        return self.backbone.norm

    @property
    def has_cls(self) -> bool:
        """Whether there is a CLS token."""
        return "cls" in self.prefix

    # ---- tokens ----------------------------------------------------------------------------------

    def embed(self, images: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """Patch and position embedding, prefix tokens first: what the first block takes.

        Args:
            images: (B, 3, S, S), normalised.
            mask: (B, grid, grid) in {0, 1}; patches with 1 are replaced by ``mask_token`` before positions are
                added (SimMIM, Fig. 1 of arXiv 2111.09886).
            mask_token: (1, 1, D), needed with ``mask``.

        Returns:
            (B, P+N, D)

        Raises:
            ValueError: the images do not have the size of the encoder.
        """
        size = self.spec.image_size
        if images.shape[-2:] != (size, size):
            raise ValueError(f"this encoder takes {size}x{size} images, not {tuple(images.shape[-2:])}")
        patches = self.family.patches(self.backbone, self.own_scale(images))  # (B, N, D)
        if mask is not None:
            assert mask_token is not None, "a mask needs a mask token"
            weight = mask.flatten(1).unsqueeze(-1).to(patches.dtype)  # (B, N, 1)
            patches = patches * (1 - weight) + mask_token.to(patches.dtype) * weight
        return self.family.placed(self.backbone, patches, self.spec.grid, self.spec.grid)

    def embed_any_size(self, images: Tensor) -> Tensor:
        """:meth:`embed` for images of any whole number of patches: (B, 3, rows * P, columns * P) -> (B, 1+N', D).

        Positions are resampled where the grid is another than that of pre-training.

        Raises:
            ValueError: a side is not whole patches, or the family takes no other sizes.
        """
        patch, (height, width) = self.spec.patch_size, images.shape[-2:]
        if height % patch or width % patch:
            raise ValueError(f"images of {height}x{width} px are not whole patches of {patch} px")
        if not self.family.any_size:
            raise ValueError(f"encoders of family {self.spec.family!r} take images of their own size only")
        patches = self.family.patches(self.backbone, self.own_scale(images))
        return self.family.placed(self.backbone, patches, height // patch, width // patch)

    def own_scale(self, images: Tensor) -> Tensor:
        """Images normalised by ImageNet's mean and deviation, as all images here are, by the encoder's own instead."""
        if self.spec.pixel_mean is None or self.spec.pixel_std is None:
            return images
        theirs, own = (
            [images.new_tensor(values).view(1, 3, 1, 1) for values in pair]
            for pair in ((IMAGENET_MEAN, IMAGENET_STD), (self.spec.pixel_mean, self.spec.pixel_std))
        )
        return (images * theirs[1] + theirs[0] - own[0]) / own[1]

    def forward_tokens(self, tokens: Tensor) -> Tensor:
        """All blocks on timm's attention, then the final LayerNorm: (B, P+N, D) -> (B, 1+N, D)."""
        return self.cls_and_patches(self.norm(self._run(tokens, self.spec.depth)))

    def forward_blocks(self, tokens: Tensor, count: int) -> Tensor:
        """The first ``count`` blocks on timm's attention, without the final LayerNorm: (B, P+N, D) -> (B, 1+N, D)."""
        return self.cls_and_patches(self._run(tokens, count))

    def _run(self, tokens: Tensor, count: int) -> Tensor:
        bias = self._bias()
        for index, block in enumerate(self.blocks[:count]):
            tokens = self.family.apply(block, tokens, self.family.of_block(bias, index))
        return tokens

    def cls_and_patches(self, tokens: Tensor, *dimensions: int) -> Tensor:
        """(…, P+N, …) -> (…, 1+N, …): CLS, or NaN where there is none, then the patches.

        Args:
            tokens: tokens, or attention maps.
            dimensions: those that run over tokens; 1 by default.
        """
        if self.prefix == ("cls",):
            return tokens
        for dimension in dimensions or (1,):
            count = tokens.shape[dimension] - len(self.prefix)
            patches = tokens.narrow(dimension, len(self.prefix), count)
            if self.has_cls:
                first = tokens.narrow(dimension, self.prefix.index("cls"), 1)
            else:
                first = torch.full_like(patches.narrow(dimension, 0, 1), torch.nan)
            tokens = torch.cat([first, patches], dim=dimension)
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

    @torch.no_grad()
    def block_states(self, images: Tensor, final_norm: bool = False) -> list[Tensor]:
        """L+1 tensors (B, 1+N, D) on timm's attention: the embedding, then the output of every block.

        Args:
            images: (B, 3, S, S), normalised.
            final_norm: apply the last LayerNorm to each of them.
        """
        tokens, bias = self.embed(images), self._bias()
        states = [tokens]
        for index, block in enumerate(self.blocks):
            states.append(self.family.apply(block, states[-1], self.family.of_block(bias, index)))
        return [self.cls_and_patches(self.norm(state) if final_norm else state) for state in states]

    # ---- looking inside --------------------------------------------------------------------------

    @torch.no_grad()
    def trace(self, tokens: Tensor) -> Iterator[BlockTrace]:
        """Run the blocks one at a time on embedded ``tokens`` (B, P+N, D), with the maps of each.

        A generator, so that only one block's maps are alive at a time: read a block, reduce it, let it go.
        Stochastic depth and dropout are off here whatever the module's mode.
        """
        bias, seen = self._bias(), self.cls_and_patches
        before = seen(tokens)
        for index, block in enumerate(self.blocks):
            inside = self.family.look(block, tokens, self.family.of_block(bias, index), self.spec.heads)
            tokens, after_mlp = inside.after_mlp, seen(inside.after_mlp)
            maps, outputs = seen(inside.attention, 2, 3), seen(inside.head_outputs, 2)
            after_attention = seen(inside.after_attention)
            del inside
            yield BlockTrace(index, before, maps, outputs, after_attention, after_mlp)
            before = after_mlp

    @torch.no_grad()
    def states(self, images: Tensor) -> list[Tensor]:
        """2L+1 tensors (B, 1+N, D): the embedding, then after every attention residual and every MLP residual.

        ``states[2 * l]`` is the output of block ``l`` (1 … L); ``states[0]`` the embedding. No final LayerNorm.
        """
        embedded = self.embed(images)
        states = [self.cls_and_patches(embedded)]
        for trace in self.trace(embedded):
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
