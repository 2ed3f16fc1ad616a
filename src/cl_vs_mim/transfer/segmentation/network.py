"""UPerNet on an encoder (Xiao et al., arXiv 1807.10221), as BEiT builds it (arXiv 2106.08254, code)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import FCNHead, UPerHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from cl_vs_mim.core.blocks import block_index
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.pretrain.objective import Objective, ObjectiveOutput
from cl_vs_mim.transfer.dense import DenseEncoder
from cl_vs_mim.transfer.layers import decayed_groups
from cl_vs_mim.transfer.segmentation.settings import Segmentation
from cl_vs_mim.transfer.segmentation.source import colour_view

_POOLS = (1, 2, 3, 6)  # sides of UPerNet's pooled maps
_AUXILIARY = 2  # the map that the second head reads


class Pyramid(nn.Module):
    """Feature maps of four blocks at strides P/4, P/2, P and 2P, all with the encoder's width."""

    def __init__(self, backbone: DenseEncoder) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.encoder.spec.width
        twice = [nn.ConvTranspose2d(width, width, kernel_size=2, stride=2) for _ in range(3)]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(twice[0], nn.BatchNorm2d(width), nn.GELU(), twice[1]),
                twice[2],
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, stride=2),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), whole patches -> four maps (B, D, ., .), fine to coarse."""
        return [level(feature) for level, feature in zip(self.levels, self.backbone(images), strict=True)]


def _loss(weight: float) -> dict:
    """Cross-entropy over the pixels that have a label."""
    return {"type": "CrossEntropyLoss", "loss_weight": weight, "avg_non_ignore": True}


class Segmenter(Objective):
    """Encoder, pyramid, UPerNet and its second head; every layer of the encoder with its own learning rate."""

    needs_labels = True
    splits_batches = True

    def __init__(self, encoder: Encoder, config: Segmentation, classes: int) -> None:
        super().__init__(encoder, (colour_view(config),))
        self.config = config
        self.steps = 0  # of its training, once that is over
        blocks = [block_index(block, encoder.spec.depth) for block in config.out_blocks]
        self.pyramid = Pyramid(DenseEncoder(encoder, blocks))
        width = encoder.spec.width
        common = {"num_classes": classes, "norm_cfg": {"type": "BN"}, "align_corners": False}
        common |= {"dropout_ratio": config.dropout}
        self.head = UPerHead(
            in_channels=[width] * 4,
            in_index=[0, 1, 2, 3],
            pool_scales=_POOLS,
            channels=config.channels,
            loss_decode=_loss(1.0),
            **common,
        )
        self.auxiliary = FCNHead(
            in_channels=width,
            in_index=_AUXILIARY,
            channels=config.auxiliary_channels,
            num_convs=1,
            concat_input=False,
            loss_decode=_loss(config.auxiliary_weight),
            **common,
        )

    def forward(self, views: list[Tensor], generator: torch.Generator | None, labels: Tensor) -> ObjectiveOutput:
        """Cross-entropy of both heads; one view (B, 3, S, S), labels (B, S, S) int64 with 255 where there is none."""
        (images,) = views
        features = self.pyramid(images)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=label.unsqueeze(0))) for label in labels]
        found = self.head.loss(features, samples, {})
        second = self.auxiliary.loss(features, samples, {})
        metrics = {"pixel_accuracy": float(found["acc_seg"])}
        return ObjectiveOutput(found["loss_ce"] + second["loss_ce"], features[2].detach().mean(dim=(2, 3)), metrics)

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """See :func:`cl_vs_mim.transfer.layers.decayed_groups`."""
        return decayed_groups(self, self.encoder, weight_decay, self.config.layer_decay)

    @torch.no_grad()
    def classify(self, image: Tensor) -> Tensor:
        """The class of every pixel of one image: (3, H, W) uint8 -> (H, W) int64.

        The shorter side is brought to the training crop's. The image is then seen whole, padded to whole patches, or
        in windows of the crop's size, ``slide_stride`` px apart, whose logits are averaged (mmseg's ``slide``).
        """
        height, width = image.shape[-2:]
        scale = self.config.image_size / min(height, width)
        pixels = normalise(image.unsqueeze(0))
        size = (round(height * scale), round(width * scale))
        if size != (height, width):
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        logits = self._logits(pixels) if self.config.slide_stride is None else self._slide(pixels)
        if size != (height, width):
            logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        return logits[0].argmax(0)

    def _logits(self, pixels: Tensor) -> Tensor:
        """(1, 3, h, w) -> (1, K, h, w)."""
        height, width = pixels.shape[-2:]
        patch = self.encoder.spec.patch_size
        padded = F.pad(pixels, (0, -width % patch, 0, -height % patch))
        logits = self.head(self.pyramid(padded))
        logits = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _slide(self, pixels: Tensor) -> Tensor:
        """The same from overlapping windows; the last ones are moved back so that they end with the image."""
        size, stride = self.config.image_size, self.config.slide_stride
        assert stride is not None, "the image is seen whole"
        starts = [
            [min(n * stride, max(0, side - size)) for n in range(max(0, side - size + stride - 1) // stride + 1)]
            for side in pixels.shape[-2:]
        ]
        total = count = 0.0
        for top in starts[0]:
            for left in starts[1]:
                logits = self._logits(pixels[..., top : top + size, left : left + size])
                right = pixels.shape[-1] - left - logits.shape[-1]
                below = pixels.shape[-2] - top - logits.shape[-2]
                around = (left, right, top, below)
                total = total + F.pad(logits, around)
                count = count + F.pad(torch.ones_like(logits[:, :1]), around)
        return total / count
