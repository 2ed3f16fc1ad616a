"""The two ViT families of the paper behind one interface: every half block's tokens and every attention map.

``vit``   the plain ViT with fixed sin-cos or learned absolute positions (MoCo v3, MAE, DINO, timm), on timm's
          ``VisionTransformer``.
``beit``  the BEiT-like ViT with one relative position bias shared by all blocks, LayerScale and no absolute
          positions (SimMIM, BEiT), on timm's ``Beit``.

Shapes: B images, N patch tokens on a square grid, D channels, H heads, L blocks. Token 0 is CLS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from timm.layers import build_sincos2d_pos_embed, resample_abs_pos_embed
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cl_vs_mim.encoder.spec import EncoderSpec

__all__ = ["BlockTrace", "Encoder", "EncoderSpec", "build_encoder", "sincos_positions"]


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

    ``forward`` and everything used in training run on timm's fused attention. :meth:`trace`, :meth:`states` and
    :meth:`attentions` recompute each block from its parts, because fused attention never forms the maps.
    """

    def __init__(self, backbone: VisionTransformer | Beit, spec: EncoderSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec = spec

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
        patches = self.backbone.patch_embed(images)  # (B, N, D)
        if mask is not None:
            weight = mask.flatten(1).unsqueeze(-1).to(patches.dtype)  # (B, N, 1)
            patches = patches * (1 - weight) + mask_token.to(patches.dtype) * weight
        cls = self.backbone.cls_token.expand(len(patches), -1, -1).to(patches.dtype)
        tokens = torch.cat([cls, patches], dim=1)  # (B, 1+N, D)
        if self.backbone.pos_embed is not None:
            tokens = tokens + self.backbone.pos_embed
        return tokens

    def forward_tokens(self, tokens: Tensor) -> Tensor:
        """All blocks on fused attention, then the final LayerNorm: (B, 1+N, D) -> (B, 1+N, D)."""
        return self.backbone.norm(self.forward_blocks(tokens, self.spec.depth))

    def forward_blocks(self, tokens: Tensor, count: int) -> Tensor:
        """The first ``count`` blocks on fused attention, without the final LayerNorm: (B, 1+N, D) -> (B, 1+N, D)."""
        bias = self._relative_position_bias()
        shared = {} if bias is None else {"shared_rel_pos_bias": bias}
        for block in self.backbone.blocks[:count]:
            tokens = block(tokens, **shared)
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
        patch, size = self.spec.patch_size, images.shape[-1]
        if size == self.spec.image_size:
            return self(images)
        if self.spec.family != "vit":
            raise ValueError("an encoder with relative positions takes images of its own size only")
        if size % patch or images.shape[-2] != size:
            raise ValueError(f"images {tuple(images.shape[-2:])} are not squares of whole {patch} px patches")
        patches = self.backbone.patch_embed.proj(images).flatten(2).transpose(1, 2)  # (B, N', D)
        grid = [size // patch, size // patch]
        positions = resample_abs_pos_embed(self.backbone.pos_embed, grid, num_prefix_tokens=1)
        cls = self.backbone.cls_token.expand(len(patches), -1, -1).to(patches.dtype)
        return self.forward_tokens(torch.cat([cls, patches], dim=1) + positions)

    # ---- looking inside --------------------------------------------------------------------------

    @torch.no_grad()
    def trace(self, tokens: Tensor) -> Iterator[BlockTrace]:
        """Run the blocks one at a time on embedded ``tokens`` (B, 1+N, D), with the maps of each.

        A generator, so that only one block's maps are alive at a time: read a block, reduce it, let it go.
        Stochastic depth and dropout are off here whatever the module's mode.
        """
        bias = self._relative_position_bias()
        for index, block in enumerate(self.backbone.blocks):
            q, k, v = self._queries_keys_values(block.attn, block.norm1(tokens))  # each (B, H, 1+N, D/H)
            logits = (q * block.attn.scale) @ k.transpose(-2, -1)
            if bias is not None:
                logits = logits + bias  # before the softmax, as in training
            attention = logits.softmax(dim=-1)  # (B, H, 1+N, 1+N)
            head_outputs = attention @ v
            update = block.attn.proj(head_outputs.transpose(1, 2).flatten(2))
            after_attention = tokens + _scaled(block, 1, update)
            after_mlp = after_attention + _scaled(block, 2, block.mlp(block.norm2(after_attention)))
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

    def _relative_position_bias(self) -> Tensor | None:
        shared = getattr(self.backbone, "rel_pos_bias", None)
        return None if shared is None else shared()  # (1, H, 1+N, 1+N)

    def _queries_keys_values(self, attn: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, _ = tokens.shape
        bias = attn.qkv.bias
        if getattr(attn, "q_bias", None) is not None:  # BEiT-like: queries and values have a bias, keys none
            bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
        qkv = nn.functional.linear(tokens, attn.qkv.weight, bias)
        q, k, v = qkv.reshape(batch, count, 3, self.spec.heads, -1).permute(2, 0, 3, 1, 4)
        if self.spec.family == "vit":
            q, k = attn.q_norm(q), attn.k_norm(k)
        return q, k, v


def _scaled(block: nn.Module, half: int, update: Tensor) -> Tensor:
    """LayerScale of a block's half, under the name that each of timm's two classes gives it."""
    if hasattr(block, f"ls{half}"):
        return getattr(block, f"ls{half}")(update)
    gamma = getattr(block, f"gamma_{half}")
    return update if gamma is None else gamma * update


# ------------------------------------------------------------------------------------------------
# Construction
# ------------------------------------------------------------------------------------------------


def build_encoder(spec: EncoderSpec, seed: int) -> Encoder:
    """An untrained encoder, its weights drawn from ``seed`` alone (the global generator is left as it was).

    The plain ViT is initialised as MoCo v3 does it (Xavier for Q, K and V apart, and for the patch projection;
    arXiv 2104.02057, code), the BEiT-like one as BEiT does it (truncated normal, residual branches divided by
    sqrt(2 l); arXiv 2106.08254).
    """
    norm_layer = layer_norm(spec.layer_norm_eps)
    common = dict(
        img_size=spec.image_size,
        patch_size=spec.patch_size,
        embed_dim=spec.width,
        depth=spec.depth,
        num_heads=spec.heads,
        mlp_ratio=spec.mlp_ratio,
        init_values=spec.layer_scale,
        drop_path_rate=spec.drop_path,
        norm_layer=norm_layer,
        num_classes=0,
        global_pool="token",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.family == "beit":
            backbone = Beit(use_abs_pos_emb=False, use_shared_rel_pos_bias=True, **common)
        else:
            backbone = VisionTransformer(weight_init="moco", **common)
            projection = backbone.patch_embed.proj
            bound = math.sqrt(6 / (3 * spec.patch_size**2 + spec.width))
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)
            if spec.positions == "sincos":
                backbone.pos_embed = sincos_positions(spec.grid, spec.width)
    return Encoder(backbone, spec)


def sincos_positions(grid: int, width: int) -> nn.Parameter:
    """Fixed 2-D sin-cos positions (1, 1+N, D), a zero row for CLS; rows first, as MoCo v3 (MAE: columns first)."""
    table = build_sincos2d_pos_embed([grid, grid], dim=width)  # (N, D): sin y, sin x, cos y, cos x
    table = table.reshape(grid**2, 2, 2, width // 4).transpose(1, 2).flatten(1)  # sin y, cos y, sin x, cos x
    table = torch.cat([torch.zeros(1, width), table])
    return nn.Parameter(table.unsqueeze(0), requires_grad=False)


def layer_norm(eps: float) -> Callable[..., nn.LayerNorm]:
    """A LayerNorm class with this epsilon, for timm's ``norm_layer`` arguments."""

    def make(width: int, **kwargs) -> nn.LayerNorm:
        return nn.LayerNorm(width, eps=eps, **kwargs)

    return make
