"""How encoders were published: where in a file the tensors lie, under which names, and what lies beside them.

The containers differ in where the state dict sits, in prefixes, and in what lies beside the encoder. timm's two
classes took over the original names inside, so that only OpenMMLab's need renaming. Facts about the containers: the
official repositories facebookresearch/{moco-v3,mae,dino}, microsoft/{SimMIM,unilm/beit}, bytedance/ibot,
open-mmlab/{mmselfsup,mmpretrain}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints.files import require_backed
from cl_vs_mim.encoder.families import FAMILIES


@dataclass(frozen=True)
class Container:
    """Where an encoder lies in a published file, and what lies beside it.

    Attributes:
        family: architecture family, a name of :data:`cl_vs_mim.encoder.families.FAMILIES`.
        state: keys that may hold the state dict.
        bare: whether a file without any of those keys is the bare state dict.
        prefixes: what the encoder's names may begin with; the first one that occurs counts.
        wrappers: what training code puts in front of all names, any of them any number of times.
        beside: beginnings of names without the prefix that are dropped.
        within: beginnings of names after the prefix that are dropped.
        left: keys of the file beside the state dict that are left unread.
        names: patterns of whole names after the prefix, and timm's names for them; tried in order.
    """

    family: str
    state: tuple[str, ...]
    bare: bool = False
    prefixes: tuple[str, ...] = ("",)
    wrappers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()


# mmpretrain's and mmselfsup's ViT and BEiT; the neck, the head and the other networks of the training are left out.
_OPENMMLAB = {
    "state": ("state_dict",),
    "prefixes": ("backbone.",),
    "beside": ("neck.", "head.", "momentum_encoder.", "data_preprocessor.", "target_generator."),
    "within": ("mask_token",),
    "left": ("meta", "message_hub", "param_schedulers"),
    "names": (
        (r"patch_embed\.projection\.(weight|bias)", r"patch_embed.proj.\1"),
        (r"ln1\.(weight|bias)", r"norm.\1"),
        (r"layers\.(\d+)\.ln([12])\.(weight|bias)", r"blocks.\1.norm\2.\3"),
        (r"layers\.(\d+)\.ffn\.layers\.0\.0\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
        (r"layers\.(\d+)\.ffn\.layers\.1\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
        (r"layers\.(\d+)\.(?:attn|ffn)\.gamma([12])\.weight", r"blocks.\1.ls\2.gamma"),
        (r"layers\.(\d+)\.(.+)", r"blocks.\1.\2"),
    ),
}

CONTAINERS = {
    "moco_v3": Container(
        "vit",
        state=("state_dict",),
        prefixes=("module.base_encoder.", "base_encoder."),
        beside=("module.momentum_encoder.", "momentum_encoder.", "module.predictor.", "predictor."),
        within=("head.",),  # the projector
    ),
    "simmim": Container("beit", state=("model",), prefixes=("encoder.",), beside=("decoder.",), within=("mask_token",)),
    "mae": Container("vit", state=("model",), within=("mask_token", "decoder_")),
    # The file of the backbone, or that of the whole training, of which the teacher is the published encoder.
    "dino": Container(
        "vit",
        state=("teacher",),
        bare=True,
        wrappers=("module.", "backbone."),
        beside=("head.", "module.head."),
        left=("student", "dino_loss", "fp16_scaler"),
    ),
    "ibot": Container(
        "vit",
        state=("teacher", "state_dict"),
        wrappers=("module.", "backbone."),
        beside=("head.", "module.head."),
        within=("masked_embed",),
        left=("student", "ibot_loss", "fp16_scaler"),
    ),
    "beit": Container("beit", state=("model",), within=("mask_token", "lm_head.")),
    "openmmlab": Container("vit", **_OPENMMLAB),  # type: ignore[arg-type]
    "openmmlab_beit": Container("beit", **_OPENMMLAB),  # type: ignore[arg-type]
    "timm": Container(
        "vit",
        state=("state_dict", "model"),
        bare=True,
        # DistributedDataParallel, torch.compile, and the attributes under which a LightningModule keeps its network
        wrappers=("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder."),
        within=("head.",),
    ),
}


def containers() -> dict[str, Container]:
    """Checkpoint family -> how it was published: those of the paper's methods, timm's, and those of other families."""
    return CONTAINERS | {name: one for family in FAMILIES.names() for name, one in FAMILIES[family].containers.items()}


# What a container may hold besides the state dict; all of it is left unread.
_TRAINING_STATE = {
    *("arch", "args", "config", "epoch", "step", "iteration", "version"),
    *("optimizer", "lr_scheduler", "scheduler", "scaler", "amp_scaler", "loss_scaler"),
    *("max_accuracy", "best_acc1", "metric"),
    # Lightning
    *("pytorch-lightning_version", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers"),
    *("hparams_name", "hparams_type", "hyper_parameters", "datamodule_hparams_name", "datamodule_hyper_parameters"),
    *("MixedPrecision", "MixedPrecisionPlugin"),
}
_PLAIN = (str, int, float, type(None))  # whatever its name, an entry of these is no part of an encoder


# ------------------------------------------------------------------------------------------------
# Taking the encoder out
# ------------------------------------------------------------------------------------------------


def state_dict(path: Path, family: str, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The whole state dict of a file's content, the encoder's tensors and all others, under its own names.

    Raises:
        UserError: it is not where this family has it, or holds what is no tensor.
    """
    container = containers()[family]
    inner = next((key for key in container.state if isinstance(content.get(key), Mapping)), None)
    if inner is None and container.bare:
        state = content
    elif inner is None:
        wanted = " or ".join(map(repr, container.state))
        raise UserError(f"{path} has no {wanted} (found: {some(content)}); it is not of family {family!r}")
    else:
        known = {inner, *_TRAINING_STATE, *container.left}
        strangers = [key for key, value in content.items() if key not in known and not isinstance(value, _PLAIN)]
        if strangers:
            raise UserError(f"{path} holds {some(strangers)} beside {inner!r}; is it of family {family!r}?")
        state = content[inner]
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor) and isinstance(name, str)}
    strangers = [name for name, value in state.items() if name not in tensors and not isinstance(value, _PLAIN)]
    if strangers or not tensors:
        raise UserError(f"{path} is no state dict of family {family!r}; not named tensors: {some(strangers)}")
    require_backed(path, tensors)
    return tensors


def encoder_tensors(path: Path, family: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors of a state dict, under timm's names.

    Raises:
        UserError: none is named as this family's are, or one is neither the encoder's nor known to lie beside it.
    """
    container = containers()[family]
    wrapped = _wrapper(container, state)
    prefixes = [wrapped + one for one in container.prefixes]
    prefix = next((p for p in prefixes if any(name.startswith(p) for name in state)), None)
    if prefix is None:
        raise UserError(f"{path} has no tensor named {container.prefixes[0]}…; it is not of family {family!r}")
    tensors: dict[str, Tensor] = {}
    strangers = []
    for name, tensor in state.items():
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix):
            strangers += [] if name.startswith(container.beside) else [name]
        elif not inner.startswith(container.within):
            tensors[_renamed(container, inner)] = tensor
    if strangers:
        listed = "\n  ".join(f"+ {name} {tuple(state[name].shape)}" for name in strangers)
        raise UserError(f"{path} holds tensors that family {family!r} does not have:\n  {listed}")
    return tensors


def _wrapper(container: Container, state: Mapping[str, Tensor]) -> str:
    """What training code put in front of the encoder's names; empty where it put nothing there."""
    if not container.wrappers:
        return ""
    pattern = rf"((?:{'|'.join(map(re.escape, container.wrappers))})*)patch_embed\.proj\.weight"
    return next((match[1] for name in state if (match := re.fullmatch(pattern, name))), "")


def _renamed(container: Container, name: str) -> str:
    for pattern, ours in container.names:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    return name


def some(keys: Any) -> str:
    """The first few of these keys, for an error message."""
    keys = [f"{key!r:.100}" for key in keys]
    return ", ".join(keys[:8]) + (" …" if len(keys) > 8 else "") if keys else "nothing"


# ------------------------------------------------------------------------------------------------
# Recognising
# ------------------------------------------------------------------------------------------------


def recognised(path: Path, content: Any) -> list[str]:
    """Names of the containers that a file's content has the form of."""
    return [name for name in containers() if isinstance(content, Mapping) and _fits(path, name, content)]


def _fits(path: Path, name: str, content: Mapping[str, Any]) -> bool:
    try:
        tensors = encoder_tensors(path, name, state_dict(path, name, content))
    except UserError:
        return False
    beit = any(re.match(r"blocks\.0\.attn\.q_bias$|rel_pos_bias\.", one) for one in tensors)
    whole = {"cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight", "norm.weight"} <= tensors.keys()
    return whole and beit == (containers()[name].family == "beit")
