"""An encoder as detectron2's backbone: features of its last block, ready for the simple feature pyramid.

Everything of pre-training is kept by :class:`cl_vs_mim.transfer.dense.DenseEncoder`; here it only gets the interface
that detectron2 asks for, and is checked against what the pyramid can be built on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.transfer.dense import DenseEncoder
from cl_vs_mim.transfer.detection.settings import Detection

FEATURE = "last_feat"
SCALES = (4.0, 2.0, 1.0, 0.5)  # of the pyramid's levels to the encoder's map (ViTDet, section 3)


class EncoderBackbone(Backbone):
    """The map of an encoder's last block.

    Args:
        spec: the fields of :class:`cl_vs_mim.encoder.spec.EncoderSpec`, plain data as in a LazyConfig. The weights are
            an untrained encoder's until others are loaded into ``dense.encoder``.
        window: side of the attention windows in patches; None: none.
        global_blocks: blocks without windows.
        bf16: whether the encoder runs in mixed precision. The features are float32 all the same: detectron2 casts box
            coordinates to their type, and bf16 would round those of a large image to 4 px.
    """

    def __init__(
        self, spec: Mapping[str, Any], window: int | None, global_blocks: Sequence[int], bf16: bool = False
    ) -> None:
        super().__init__()
        encoder = build_encoder(EncoderSpec(**spec), seed=0)
        self.dense = DenseEncoder(encoder, (encoder.spec.depth - 1,), window, tuple(global_blocks))
        self._bf16 = bf16
        self._out_features = [FEATURE]
        self._out_feature_channels = {FEATURE: encoder.spec.width}
        self._out_feature_strides = {FEATURE: self.dense.stride}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised -> ``last_feat`` (B, D, H/P, W/P)."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
            (features,) = self.dense(images)
        return {FEATURE: features.float()}


class TopLevel(LastLevelMaxPool):
    """detectron2's coarsest level, on a pyramid whose levels need not be called p2 … p5."""

    def __init__(self, in_feature: str) -> None:
        super().__init__()
        self.in_feature = in_feature


def pyramid_strides(patch_size: int) -> list[int]:
    """Pixels between the features of the five levels, finest first; 4 … 64 for patches of 16 px."""
    return [*(int(patch_size / scale) for scale in SCALES), int(2 * patch_size / SCALES[-1])]


def level_names(patch_size: int) -> list[str]:
    """detectron2's names of the five levels: p2 … p6 for patches of 16 px."""
    return [f"p{stride.bit_length() - 1}" for stride in pyramid_strides(patch_size)]


def check_encoder(spec: EncoderSpec, settings: Detection, name: str) -> None:
    """Whether a pyramid and windows of these settings can stand on this encoder.

    Raises:
        UserError: a patch size that is no power of two or under 4 px, an image size that is not whole windows or not
            whole cells of the pyramid, or a global block that the encoder does not have.
    """
    patch, size = spec.patch_size, settings.image_size
    if patch < 4 or patch & (patch - 1):
        raise UserError(
            f"{name} has patches of {patch} px; the feature pyramid halves and doubles them, so it takes 4, 8, 16 or "
            "32 px: choose another encoder"
        )
    unit = patch * (settings.window or 1)
    if size % unit:
        window = "" if settings.window is None else f" in windows of {settings.window}"
        raise UserError(
            f"transfer.detection.image_size: {size} px does not fit the patches of {name} ({patch} px{window}); make "
            f"it a multiple of {unit} px"
        )
    coarsest = int(patch / SCALES[-1])
    if size % coarsest:
        raise UserError(
            f"transfer.detection.image_size: {size} px is not whole cells of the pyramid's {coarsest} px on {name}; "
            f"make it a multiple of {coarsest} px"
        )
    missing = [block for block in settings.global_blocks if block >= spec.depth]
    if missing:
        raise UserError(f"transfer.detection.global_blocks: {missing} are not blocks of {name} (0 … {spec.depth - 1})")
