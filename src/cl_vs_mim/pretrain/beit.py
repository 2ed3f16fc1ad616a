"""BEiT: predict the discrete tokens of hidden patches (Bao et al.; arXiv 2106.08254).

Blocks of patches are replaced by a mask token; a linear head on the encoder's tokens names, for each hidden patch, the
entry of a tokenizer's codebook.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_vs_mim.config import BEiTObjective
from cl_vs_mim.decoder import VQDecoder
from cl_vs_mim.encoder import Encoder
from cl_vs_mim.pretrain.distributed import own_rows
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

_ASPECT = (0.3, 1 / 0.3)  # of a block, height over width; the original's
_ATTEMPTS = 10  # to place a block before single patches fill up what is left

# ------------------------------------------------------------------------------------------------
# Mask
# ------------------------------------------------------------------------------------------------


def blockwise_mask(batch: int, grid: int, ratio: float, least: int, generator: torch.Generator | None) -> Tensor:
    """Random blocks of patches (arXiv 2106.08254, Algorithm 1), floor(ratio * grid^2) patches in every image.

    Blocks of at least ``least`` patches and of random shape are laid until the count is reached; where no block fits
    any more, single patches fill up, so that every image hides the same number (the original may hide fewer).

    Args:
        batch: number of masks B.
        grid: patches along a side.
        ratio: share to hide (the original: 0.4).
        least: patches in the smallest block (the original: 16 of 196).
        generator: on the CPU; makes the draws.

    Returns:
        (B, grid, grid) float32 in {0, 1}; 1 is hidden.

    Raises:
        ValueError: no patch would be hidden, or all.
    """
    wanted = int(ratio * grid**2)
    if not 0 < wanted < grid**2:
        raise ValueError(f"mask ratio {ratio} hides {wanted} of {grid**2} patches")
    return torch.stack([_one_mask(grid, wanted, min(least, wanted), generator) for _ in range(batch)])


def _one_mask(grid: int, wanted: int, least: int, generator: torch.Generator | None) -> Tensor:
    mask = torch.zeros(grid, grid)
    draws = torch.rand(_ATTEMPTS * 4, 4, generator=generator).tolist()  # a fixed number: images do not depend on others
    order = torch.rand(grid**2, generator=generator)
    low, high = (math.log(ratio) for ratio in _ASPECT)
    for size, shape, place_row, place_col in draws:
        left = wanted - int(mask.sum())
        if left <= 0:
            break
        area = min(least, left) + size * max(0, left - least)
        aspect = math.exp(low + (high - low) * shape)
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < grid and 0 < width < grid):
            continue
        row, col = int(place_row * (grid - height + 1)), int(place_col * (grid - width + 1))
        block = mask[row : row + height, col : col + width]
        if 0 < block.numel() - int(block.sum()) <= left:
            block.fill_(1)
    left = wanted - int(mask.sum())
    if left:
        free = (order.view(grid, grid) + 2 * mask).flatten().argsort()[:left]
        mask.view(-1)[free] = 1
    return mask


# ------------------------------------------------------------------------------------------------
# Objective
# ------------------------------------------------------------------------------------------------


class BEiT(Objective):
    """BEiT around an encoder. The tokenizer comes from a file and is trained no further."""

    splits_batches = True

    def __init__(self, encoder: Encoder, config: BEiTObjective) -> None:
        super().__init__(encoder, config.views)
        self.config = config
        self.mask_token = nn.Parameter(torch.empty(1, 1, encoder.spec.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.head = nn.Linear(encoder.spec.width, config.codes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self._tokenizer: tuple[Encoder, VQDecoder] | None = None  # no parameter of ours: not saved, not trained

    def attach_tokenizer(self, encoder: Encoder, decoder: VQDecoder) -> None:
        """Set what names the patches.

        Raises:
            ValueError: it has another grid, or another number of codes.
        """
        ours, theirs = self.encoder.spec, encoder.spec
        if (theirs.image_size, theirs.patch_size) != (ours.image_size, ours.patch_size):
            raise ValueError(
                f"the tokenizer is for {theirs.image_size} px images of {theirs.patch_size} px patches, the encoder "
                f"for {ours.image_size} and {ours.patch_size}"
            )
        if decoder.spec.codes != self.config.codes:
            raise ValueError(f"the tokenizer has {decoder.spec.codes} codes, objective.codes is {self.config.codes}")
        self._tokenizer = (encoder.eval().requires_grad_(False), decoder.eval().requires_grad_(False))

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """The tokenizer's names of the patches: (B, 3, S, S) -> (B, N) int64."""
        if self._tokenizer is None:
            raise RuntimeError("attach_tokenizer has not been called")
        encoder, decoder = (part.to(images.device) for part in self._tokenizer)
        return decoder.nearest(decoder.vectors(encoder(images)))

    def forward(self, views: list[Tensor], generator: torch.Generator | None) -> ObjectiveOutput:
        """Cross-entropy on the hidden patches of one view (B, 3, S, S); the masks are drawn by ``generator``."""
        (images,) = views
        config, grid = self.config, self.encoder.spec.grid
        mask = own_rows(
            len(images), lambda rows: blockwise_mask(rows, grid, config.mask_ratio, config.least_block, generator)
        )
        mask = mask.to(images.device, non_blocking=True)
        tokens = self.encoder(images, mask, self.mask_token)[:, 1:]  # (B, N, D)
        hidden = mask.flatten(1).bool()
        targets = self.codes(images)[hidden]
        logits = self.head(tokens[hidden]).float()
        accuracy = float((logits.detach().argmax(-1) == targets).float().mean())
        loss = F.cross_entropy(logits, targets)
        return ObjectiveOutput(loss, tokens.detach().mean(dim=1), {"code_accuracy": accuracy})

    def no_weight_decay(self) -> set[str]:
        """The mask token too."""
        return super().no_weight_decay() | {"mask_token"}
