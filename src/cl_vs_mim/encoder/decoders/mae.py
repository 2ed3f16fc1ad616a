"""MAE's decoder: a small ViT that gets mask tokens where patches were hidden (He et al.; arXiv 2111.06377).

Shapes: B images, N patches of P x P pixels, D channels of the encoder, W of the decoder. Token 0 is CLS. timm is
imported when a decoder is built: reading a configuration does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cl_vs_mim.encoder.decoders import Decoder, DecoderSpec
from cl_vs_mim.encoder.decoders.patches import patch_statistics, patchify, unpatchify
from cl_vs_mim.encoder.spec import EncoderSpec

if TYPE_CHECKING:
    from cl_vs_mim.encoder.model import Encoder


class MAEDecoder(Decoder):
    """MAE's decoder on timm's blocks: the encoder's tokens at their places, mask tokens everywhere else."""

    def __init__(self, encoder: EncoderSpec, spec: DecoderSpec) -> None:
        from timm.models.vision_transformer import Block

        from cl_vs_mim.encoder.layers import layer_norm, sincos_positions

        super().__init__(encoder, spec)
        self.patch_size = encoder.patch_size
        self.embed = nn.Linear(encoder.width, spec.width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, spec.width))
        self.positions = sincos_positions(encoder.grid, spec.width)  # (1, 1+N, W), fixed
        norm = layer_norm(encoder.layer_norm_eps)
        blocks = (
            Block(spec.width, spec.heads, spec.mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(spec.depth)
        )
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm(spec.width)
        self.predict = nn.Linear(spec.width, 3 * encoder.patch_size**2)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def place(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens of the decoder before its first block, (B, 1+N, W).

        Args:
            tokens: (B, 1+V, D) the encoder's, after its last LayerNorm, CLS first.
            visible: (B, V) positions of the V patches on the grid; None: all N, in order.
        """
        tokens = self.embed(tokens)
        if visible is not None:
            count = self.positions.shape[1] - 1
            patches = self.mask_token.to(tokens.dtype).expand(len(tokens), count, -1)
            index = visible[..., None].expand(-1, -1, tokens.shape[2])
            tokens = torch.cat([tokens[:, :1], patches.scatter(1, index, tokens[:, 1:])], dim=1)
        return tokens + self.positions

    def forward(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Predicted patches (B, N, P*P*3); arguments as of :meth:`place`."""
        tokens = self.place(tokens, visible)
        for block in self.blocks:
            tokens = block(tokens)
        return self.predict(self.norm(tokens)[:, 1:])

    @torch.no_grad()
    def states(self, tokens: Tensor, visible: Tensor | None = None) -> list[Tensor]:
        """2 * depth + 1 tensors (B, 1+N, W): the placed tokens, then after every half block (Fig. 11)."""
        states = [self.place(tokens, visible)]
        for block in self.blocks:
            after_attention = states[-1] + block.ls1(block.attn(block.norm1(states[-1])))
            states += [after_attention, after_attention + block.ls2(block.mlp(block.norm2(after_attention)))]
        return states

    @torch.no_grad()
    def reconstruct(self, encoder: Encoder, images: Tensor, mask: Tensor) -> Tensor:
        """What it paints: (B, 3, S, S) normalised images, (B, grid, grid) mask -> (B, 3, S, S), all patches.

        Every image must have as many hidden patches as the others. With ``norm_pix`` each patch is brought to the mean
        and standard deviation of the original patch, which no decoder knows: it shows structure, not colour.
        """
        visible = mask.flatten(1).argsort(dim=1, stable=True)[:, : int((mask[0] == 0).sum())]
        patches = self(encode_visible(encoder, images, visible), visible)
        if self.spec.norm_pix:
            mean, deviation = patch_statistics(patchify(images, self.patch_size))
            patches = patches * deviation + mean
        return unpatchify(patches, self.patch_size)


def encode_visible(encoder: Encoder, images: Tensor, visible: Tensor) -> Tensor:
    """The encoder on some patches only, positions added before the others are dropped (MAE).

    Args:
        encoder: a plain ViT; relative positions would need the whole grid.
        images: (B, 3, S, S), normalised.
        visible: (B, V) patches to keep.

    Returns:
        (B, 1+V, D), CLS first, after the last LayerNorm.
    """
    tokens = encoder.embed(images)
    kept = tokens[:, 1:].gather(1, visible[..., None].expand(-1, -1, tokens.shape[2]))
    return encoder.forward_tokens(torch.cat([tokens[:, :1], kept], dim=1))


DECODER = MAEDecoder
