"""From the settings of a study to detectron2's LazyConfig: model, optimiser and learning rate, as ViTDet has them.

The model's part starts from the one inside the package (``common/models/mask_rcnn_vitdet.py``), whose ViT is replaced
by our encoder; what is not named here is as there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.data.images import IMAGENET_MEAN, IMAGENET_STD
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.spec import EncoderSpec
from cl_vs_mim.transfer.detection.backbone import (
    FEATURE,
    SCALES,
    EncoderBackbone,
    TopLevel,
    level_names,
    pyramid_strides,
)
from cl_vs_mim.transfer.detection.settings import Detection

_WARMUP_FACTOR = 0.001  # of the learning rate at the first iteration (ViTDet's configs)
_GRAIN = 1_000_000  # parts of a training that milestones are counted in: in iterations a short one has no room for two
# Parameters that a pull to zero would take away what they say; ViTDet's own has positions only, BEiT's the others.
_NO_DECAY = ("pos_embed", "cls_token", "relative_position_bias_table", "gamma_1", "gamma_2", "gamma")


def detector_config(spec: EncoderSpec, settings: Detection, classes: int, device: torch.device) -> DictConfig:
    """The LazyConfig: keys ``model``, ``optimizer`` (its ``params.model`` still to be set) and ``multiplier``."""
    return OmegaConf.create(
        {
            "model": _model(spec, settings, classes, device),
            "optimizer": _optimizer(spec, settings),
            "multiplier": _multiplier(settings),
        },
        flags={"allow_objects": True},
    )


def _model(spec: EncoderSpec, settings: Detection, classes: int, device: torch.device) -> DictConfig:
    model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
    levels, strides = level_names(spec.patch_size), pyramid_strides(spec.patch_size)
    channels = settings.pyramid_channels
    wanted = {"auto": device.type == "cuda", "32-true": False, "bf16-mixed": True}

    # Our images are RGB in 0 … 255; the encoders were trained on ImageNet's mean and deviation of 0 … 1.
    model.pixel_mean = [255 * value for value in IMAGENET_MEAN]
    model.pixel_std = [255 * value for value in IMAGENET_STD]
    model.input_format = "RGB"

    backbone = model.backbone
    backbone.net = LazyCall(EncoderBackbone)(
        spec=spec.to_dict() | {"drop_path": settings.drop_path},
        window=settings.window,
        global_blocks=list(settings.global_blocks),
        bf16=wanted[settings.precision],
    )
    backbone.in_feature = FEATURE
    backbone.out_channels = channels
    backbone.scale_factors = list(SCALES)
    backbone.top_block = LazyCall(TopLevel)(in_feature=levels[-2])
    backbone.square_pad = settings.image_size

    proposer = model.proposal_generator
    proposer.in_features = levels
    proposer.head.in_channels = channels
    proposer.anchor_generator.sizes = [[size] for size in settings.anchor_sizes]
    proposer.anchor_generator.strides = strides
    proposer.pre_nms_topk = (2 * settings.proposals, settings.proposals)  # training, evaluation
    proposer.post_nms_topk = (settings.proposals, settings.proposals)

    heads = model.roi_heads
    heads.num_classes = classes
    heads.batch_size_per_image = settings.regions
    for kind in ("box", "mask"):
        heads[f"{kind}_in_features"] = levels[:-1]
        heads[f"{kind}_pooler"].scales = [1 / stride for stride in strides[:-1]]
        heads[f"{kind}_head"].input_shape.channels = channels
        heads[f"{kind}_head"].conv_dims = [settings.conv_dim] * len(heads[f"{kind}_head"].conv_dims)
    heads.box_head.fc_dims = [settings.fc_dim]
    heads.box_predictor.input_shape.channels = settings.fc_dim
    heads.box_predictor.test_score_thresh = settings.least_score
    return model


def _optimizer(spec: EncoderSpec, settings: Detection) -> DictConfig:
    optimizer = model_zoo.get_config("common/optim.py").AdamW
    optimizer.lr = settings.base_lr
    optimizer.weight_decay = settings.weight_decay
    optimizer.params.lr_factor_func = partial(layer_rate, decay=settings.layer_decay, depth=spec.depth)
    optimizer.params.overrides = {name: {"weight_decay": 0.0} for name in _NO_DECAY}
    return optimizer


def layer_rate(name: str, decay: float, depth: int) -> float:
    """Factor of the learning rate for a parameter of the detector: ``decay`` to the power of blocks above it.

    As ViTDet has it, and for what its ViT lacks as BEiT has it: CLS as the patch embedding, the shared relative bias
    as the last block.
    """
    if name.endswith(".cls_token"):
        return decay ** (depth + 1)
    if ".rel_pos_bias." in name:
        return decay
    return get_vit_lr_decay_rate(name, lr_decay_rate=decay, num_layers=depth)


def _multiplier(settings: Detection) -> DictConfig:
    total = settings.iterations
    return LazyCall(WarmupParamScheduler)(
        scheduler=LazyCall(MultiStepParamScheduler)(
            values=[settings.gamma**index for index in range(len(settings.milestones) + 1)],
            milestones=[round(share * _GRAIN) for share in settings.milestones],
            num_updates=_GRAIN,
        ),
        warmup_length=settings.warmup_iterations / total,
        warmup_factor=_WARMUP_FACTOR,
    )


def save_config(config: DictConfig, path: Path) -> None:
    """The LazyConfig as YAML, for readers; without the pickle that detectron2 may add to it."""
    with atomic_path(path) as temporary:
        LazyConfig.save(config, str(temporary))
        temporary.with_suffix(temporary.suffix + ".pkl").unlink(missing_ok=True)


def build_detector(config: DictConfig, encoder: Encoder, seed: int, device: torch.device) -> nn.Module:
    """The detector: the encoder's weights (copied), everything else drawn from ``seed``."""
    with global_randomness(seed, "detection", "weights"):
        model = instantiate(config.model)
    model.backbone.net.dense.encoder.load_state_dict(encoder.state_dict())
    return model.to(device)


def build_optimizer(config: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with layer decay; every group's ``initial_lr`` is its learning rate before the schedule."""
    optimizer = config.optimizer.copy()
    optimizer.params.model = model
    built = instantiate(optimizer)
    for group in built.param_groups:
        group["initial_lr"] = group["lr"]
    return built
