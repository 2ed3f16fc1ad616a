"""BEiT: predict the discrete tokens of hidden patches (Bao et al.; arXiv 2106.08254).

Blocks of patches are replaced by a mask token; a linear head on the encoder's tokens names, for each hidden patch, the
entry of a tokenizer's codebook.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_vs_mim.config import BEiTObjective
from cl_vs_mim.encoder.decoder import VQDecoder
from cl_vs_mim.encoder.masks import blockwise_mask
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.pretrain.distributed import own_rows
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput


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
