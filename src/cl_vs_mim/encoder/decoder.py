"""What masked image modelling puts behind the encoder: tokens in, pixels out (Figure 11).

``mae``     a small ViT of its own that gets mask tokens where patches were hidden (He et al.; arXiv 2111.06377).
``simmim``  one linear layer; the mask tokens go through the encoder (Xie et al.; arXiv 2111.09886).

Shapes: B images, N patches of P x P pixels, D channels of the encoder, W of the decoder. Token 0 is CLS.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from cl_vs_mim.encoder.model import Encoder, layer_norm, sincos_positions
from cl_vs_mim.encoder.spec import EncoderSpec

_NORM_PIX_EPS = 1e-6  # added to a patch's variance, as in the original

# ------------------------------------------------------------------------------------------------
# Patches
# ------------------------------------------------------------------------------------------------


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches: (B, 3, S, S) -> (B, N, P*P*3), patches by rows, colour last.

    Raises:
        ValueError: the images are not square, or not whole patches.
    """
    if images.shape[-1] != images.shape[-2] or images.shape[-1] % patch_size:
        raise ValueError(f"images {tuple(images.shape[-2:])} are not squares of {patch_size} px patches")
    cut = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # (B, 3, g, P, g, P)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """The inverse of :func:`patchify`: (B, N, P*P*3) -> (B, 3, S, S)."""
    grid = round(patches.shape[1] ** 0.5)
    cut = patches.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, (grid, grid))  # (B, g, g, P, P, 3)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, (B, N, 1) each, with which MAE may normalise its targets."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + _NORM_PIX_EPS).sqrt()


# ------------------------------------------------------------------------------------------------
# Decoders
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecoderSpec:
    """Which decoder; the header of a native checkpoint holds it. Depth, heads and ``norm_pix`` are MAE's alone."""

    method: Literal["mae", "simmim", "vq"]
    width: int = 0  # of MAE's blocks, or of a tokenizer's codes
    depth: int = 0
    heads: int = 0
    mlp_ratio: float = 4.0
    norm_pix: bool = False  # it predicts patches with mean 0 and variance 1
    codes: int = 0  # entries of a tokenizer's codebook

    def to_dict(self) -> dict[str, object]:
        """The specification as plain data."""
        return asdict(self)


class SimMIMDecoder(nn.Module):
    """SimMIM's mask token and one-layer head."""

    def __init__(self, encoder: EncoderSpec, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mask_token = nn.Parameter(torch.zeros(1, 1, encoder.width))
        self.head = nn.Sequential(
            nn.Conv2d(encoder.width, 3 * encoder.patch_size**2, kernel_size=1), nn.PixelShuffle(encoder.patch_size)
        )

    @torch.no_grad()
    def reconstruct(self, encoder: Encoder, images: Tensor, mask: Tensor) -> Tensor:
        """What it paints: (B, 3, S, S) normalised images, (B, grid, grid) mask -> (B, 3, S, S), all patches."""
        tokens = encoder(images, mask, self.mask_token)[:, 1:]  # (B, N, D)
        return self.head(tokens.transpose(1, 2).unflatten(2, mask.shape[1:]))


class MAEDecoder(nn.Module):
    """MAE's decoder on timm's blocks: the encoder's tokens at their places, mask tokens everywhere else."""

    def __init__(self, encoder: EncoderSpec, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec, self.patch_size = spec, encoder.patch_size
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
        encoder: of the plain family; relative positions would need the whole grid.
        images: (B, 3, S, S), normalised.
        visible: (B, V) patches to keep.

    Returns:
        (B, 1+V, D), CLS first, after the last LayerNorm.
    """
    tokens = encoder.embed(images)
    kept = tokens[:, 1:].gather(1, visible[..., None].expand(-1, -1, tokens.shape[2]))
    return encoder.forward_tokens(torch.cat([tokens[:, :1], kept], dim=1))


class VQDecoder(nn.Module):
    """The codebook of a discrete tokenizer, and the head that paints a patch from an entry."""

    def __init__(self, encoder: EncoderSpec, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec, self.patch_size = spec, encoder.patch_size
        self.project = nn.Linear(encoder.width, spec.width)
        self.head = nn.Sequential(
            nn.Linear(spec.width, encoder.width), nn.GELU(), nn.Linear(encoder.width, 3 * encoder.patch_size**2)
        )
        self.register_buffer("codebook", F.normalize(torch.randn(spec.codes, spec.width), dim=-1))  # (K, C)

    def vectors(self, tokens: Tensor) -> Tensor:
        """What is quantised: (B, 1+N, D), CLS first -> (B, N, C) of unit length."""
        return F.normalize(self.project(tokens[:, 1:]), dim=-1)

    def nearest(self, vectors: Tensor) -> Tensor:
        """The nearest entry of each vector: (B, N, C) -> (B, N) int64."""
        return (vectors @ self.codebook.T.to(vectors.dtype)).argmax(-1)

    def paint(self, vectors: Tensor) -> Tensor:
        """Patches from vectors: (B, N, C) -> (B, N, P*P*3)."""
        return self.head(vectors)

    @torch.no_grad()
    def reconstruct(self, encoder: Encoder, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The images as their codes tell them: (B, 3, S, S) normalised -> (B, 3, S, S). Nothing is hidden."""
        codes = self.nearest(self.vectors(encoder(images)))
        return unpatchify(self.paint(self.codebook[codes]), self.patch_size)


Decoder = MAEDecoder | SimMIMDecoder | VQDecoder
_DECODERS = {"mae": MAEDecoder, "simmim": SimMIMDecoder, "vq": VQDecoder}


def build_decoder(encoder: EncoderSpec, spec: DecoderSpec) -> Decoder:
    """An untrained decoder; its weights are drawn from torch's global generator."""
    return _DECODERS[spec.method](encoder, spec)
