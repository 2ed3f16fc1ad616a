"""BEiT: predict the discrete tokens of hidden patches (Bao et al.; arXiv 2106.08254).

Blocks of patches are replaced by a mask token; a linear head on the encoder's tokens names, for each hidden patch, the
entry of a tokenizer's codebook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.sections import Name
from cl_vs_mim.config.views import View
from cl_vs_mim.encoder.decoders.vq import VQDecoder
from cl_vs_mim.encoder.masks import blockwise_mask
from cl_vs_mim.pretrain.distributed import own_rows
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput

if TYPE_CHECKING:
    from cl_vs_mim.config import Model, Study
    from cl_vs_mim.encoder.decoders import Decoder
    from cl_vs_mim.encoder.model import Encoder


class BEiTConfig(ObjectiveConfig):
    """BEiT (Bao et al., arXiv 2106.08254): name the tokenizer's codes of hidden blocks of patches."""

    needs_decoder = True

    method: Literal["beit"]
    tokenizer: Name | None = None  # a model of the study of method vq_tokenizer; its first seed is used
    tokenizer_file: str | None = None  # or one that is given: a file as the training loop exports it
    codes: PositiveInt  # those of the tokenizer
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]  # the original: 0.4
    least_block: PositiveInt  # patches of the smallest block (the original: 16 of 196)
    views: tuple[View]

    @model_validator(mode="after")
    def _one_tokenizer(self) -> BEiTConfig:
        if (self.tokenizer is None) == (self.tokenizer_file is None):
            raise ValueError("give either tokenizer (a model of this study) or tokenizer_file (a path)")
        return self

    def check(self, model: Model, study: Study) -> None:
        """The tokenizer is one, and has as many codes."""
        if self.tokenizer is None:
            return
        tokenizers = {name: one for name, one in study.models.items() if one.method == "vq_tokenizer"}
        if self.tokenizer not in tokenizers:
            raise ValueError(
                f"objective.tokenizer: {self.tokenizer!r} is no model of method vq_tokenizer "
                f"(there are: {', '.join(tokenizers) or 'none'})"
            )
        tokenizer = tokenizers[self.tokenizer].objective
        codes = self.codes if tokenizer is None else tokenizer.decides()["codes"]
        if codes != self.codes:
            raise ValueError(f"objective.codes: {self.codes}, but tokenizer {self.tokenizer!r} has {codes}")

    def decides(self) -> dict[str, Any]:
        """Not what the tokenizer is called: what decides it enters by itself."""
        return {name: value for name, value in super().decides().items() if name != "tokenizer"}

    def needs(self) -> str | None:
        """The tokenizer."""
        return self.tokenizer

    def given(self) -> str | None:
        """The tokenizer's file."""
        return self.tokenizer_file


class BEiT(Objective):
    """BEiT around an encoder. The tokenizer comes from a file and is trained no further."""

    Config = BEiTConfig
    splits_batches = True

    def __init__(self, encoder: Encoder, config: BEiTConfig) -> None:
        super().__init__(encoder, config.views, config.decays)
        self.config = config
        self.mask_token = nn.Parameter(torch.empty(1, 1, encoder.spec.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.head = nn.Linear(encoder.spec.width, config.codes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self._tokenizer: tuple[Encoder, VQDecoder] | None = None  # no parameter of ours: not saved, not trained

    def attach(self, encoder: Encoder, decoder: Decoder | None) -> None:
        """Set what names the patches.

        Raises:
            ValueError: it is no tokenizer, has another grid, or another number of codes.
        """
        if not isinstance(decoder, VQDecoder):
            raise ValueError(
                f"it holds a decoder of method {decoder.spec.method if decoder else 'none'}, not a tokenizer"
            )
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
            raise RuntimeError("attach has not been called")
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


OBJECTIVE = BEiT
