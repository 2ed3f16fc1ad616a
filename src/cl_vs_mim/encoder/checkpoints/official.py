"""The containers in which the five methods' encoders were published, and timm's, reduced to one naming.

The containers differ in where the state dict sits, in prefixes, and in what lies beside the encoder. timm's two
classes took over the original names inside, so nothing needs renaming. Facts about the containers: the official
repositories facebookresearch/{moco-v3,mae,dino}, microsoft/{SimMIM,unilm/beit}.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints.files import described, fill_encoder, read_pickle, read_safetensors, require_backed
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.encoder.model import Encoder, EncoderSpec

# ------------------------------------------------------------------------------------------------
# Containers
# ------------------------------------------------------------------------------------------------


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
    """

    family: str
    state: tuple[str, ...]
    bare: bool = False
    prefixes: tuple[str, ...] = ("",)
    wrappers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    within: tuple[str, ...] = ()


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
    "dino": Container("vit", state=(), bare=True),
    "beit": Container("beit", state=("model",), within=("mask_token", "lm_head.")),
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

# Parts that change the function of a ViT and that the families here do not have.
_UNSUPPORTED = {
    r"reg_token": "register tokens",
    r"dist_token|head_dist\.": "a distillation token",
    r"norm_pre\.": "a LayerNorm before the blocks (CLIP)",
    r"fc_norm\.": "a LayerNorm after the pooling instead of after the blocks (fine-tuned with mean pooling)",
    r"attn_pool\.": "attention pooling",
    r"patch_embed\.backbone\.": "a convolutional stem",
    r"blocks\.\d+\.attn\.[qk]_norm\.": "normalised queries and keys",
    r"blocks\.\d+\.mlp\.(w12|w1|fc1_g)\.": "a gated MLP",
}


def read_official(path: Path, family: str, verified: bool = False) -> dict[str, Tensor]:
    """The encoder's tensors under timm's names.

    Raises:
        UserError: the file is damaged or not of this family, or holds something that is neither part of the
            encoder nor known to lie beside it.
    """
    container = containers()[family]
    state = read_tensors(path, family, verified)
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
            tensors[inner] = tensor
    if strangers:
        listed = "\n  ".join(f"+ {name} {tuple(state[name].shape)}" for name in strangers)
        raise UserError(f"{path} holds tensors that family {family!r} does not have:\n  {listed}")
    for pattern, part in _UNSUPPORTED.items():
        found = next((name for name in tensors if re.match(pattern, name)), None)
        if found:
            raise UserError(f"{path} has {part} ({found}); such an encoder is not supported")
    return tensors


def _wrapper(container: Container, state: Mapping[str, Tensor]) -> str:
    """What training code put in front of the encoder's names; empty where it put nothing there."""
    if not container.wrappers:
        return ""
    pattern = rf"((?:{'|'.join(map(re.escape, container.wrappers))})*)patch_embed\.proj\.weight"
    return next((match[1] for name in state if (match := re.fullmatch(pattern, name))), "")


def read_tensors(path: Path, family: str, verified: bool = False) -> dict[str, Tensor]:
    """The whole state dict of a published file, the encoder's tensors and all others, under its own names.

    Raises:
        UserError: the file is damaged or not of this family.
    """
    content = read_safetensors(path)[0] if path.suffix == ".safetensors" else read_pickle(path, verified)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict of family {family!r}")
    return _state_dict(path, family, content)


def _state_dict(path: Path, family: str, content: Mapping[str, Any]) -> dict[str, Tensor]:
    container = containers()[family]
    inner = next((key for key in container.state if isinstance(content.get(key), Mapping)), None)
    if inner is None and container.bare:
        state = content
    elif inner is None:
        wanted = " or ".join(map(repr, container.state))
        raise UserError(f"{path} has no {wanted} (found: {_some(content)}); it is not of family {family!r}")
    else:
        strangers = [
            key
            for key, value in content.items()
            if key != inner and key not in _TRAINING_STATE and not isinstance(value, _PLAIN)
        ]
        if strangers:
            raise UserError(f"{path} holds {_some(strangers)} beside {inner!r}; is it of family {family!r}?")
        state = content[inner]
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor) and isinstance(name, str)}
    strangers = [name for name, value in state.items() if name not in tensors and not isinstance(value, _PLAIN)]
    if strangers or not tensors:
        raise UserError(f"{path} is no state dict of family {family!r}; not named tensors: {_some(strangers)}")
    require_backed(path, tensors)
    return tensors


def _some(keys: Any) -> str:
    keys = [f"{key!r:.100}" for key in keys]
    return ", ".join(keys[:8]) + (" …" if len(keys) > 8 else "") if keys else "nothing"


# ------------------------------------------------------------------------------------------------
# What the tensors say
# ------------------------------------------------------------------------------------------------


def load_official(
    path: Path,
    family: str,
    img_size: int,
    patch_size: int,
    num_heads: int,
    *,
    layer_norm_eps: float | None = None,
    verified: bool = False,
) -> Encoder:
    """The encoder of a published checkpoint; see :func:`cl_vs_mim.encoder.checkpoints.load_encoder`."""
    tensors = read_official(path, family, verified)
    spec = infer_spec(path, containers()[family].family, tensors, img_size, patch_size, num_heads)
    if layer_norm_eps is not None:
        spec = replace(spec, layer_norm_eps=layer_norm_eps)
    for name, (wanted, words) in FAMILIES[spec.family].constants(spec).items():
        found = tensors.pop(name, None)
        if found is not None and not torch.equal(found, wanted):
            raise UserError(f"{path}: {words}")
    return fill_encoder(path, spec, tensors)


def infer_spec(
    path: Path,
    family: str,
    tensors: Mapping[str, Tensor],
    img_size: int,
    patch_size: int,
    num_heads: int,
) -> EncoderSpec:
    """The specification of an encoder, read off its tensors and checked against what was given.

    Raises:
        UserError: a tensor that tells a size is missing, or contradicts ``img_size``, ``patch_size`` or ``num_heads``.
    """

    def tensor(name: str, dimensions: int) -> Tensor:
        if name not in tensors or tensors[name].ndim != dimensions:
            raise UserError(f"{path} has no {name} with {dimensions} dimensions (found: {_some(tensors)})")
        return tensors[name]

    projection = tensor("patch_embed.proj.weight", 4)
    width, channels, *kernel = projection.shape
    if channels != 3 or kernel != [patch_size, patch_size]:
        raise UserError(
            f"{path}: its patch projection takes {channels} channels of {kernel[0]}x{kernel[1]} px, "
            f"but patch_size={patch_size} was given"
        )
    if img_size % patch_size:
        raise UserError(f"{path}: img_size={img_size} is not a multiple of patch_size={patch_size}")
    if num_heads < 1 or width % num_heads:
        raise UserError(f"{path}: its width {width} cannot be divided into num_heads={num_heads}")
    grid = img_size // patch_size
    kind = FAMILIES[family]
    positions = kind.read_positions(path, tensors, grid, num_heads)
    hidden = len(tensor("blocks.0.mlp.fc1.weight", 2))
    fields = {
        "family": family,
        "image_size": img_size,
        "patch_size": patch_size,
        "width": width,
        "depth": count_blocks(path, tensors),
        "heads": num_heads,
        "mlp_ratio": _ratio(hidden, width),
        "positions": positions,
        "layer_scale": 1.0 if kind.layer_scale in tensors else None,  # its start, which trained weights no longer tell
    }
    return described(path, EncoderSpec, fields)


def count_blocks(path: Path, tensors: Mapping[str, Tensor]) -> int:
    """Blocks of which there are tensors, which must be those from 0 on.

    Raises:
        UserError: one is left out.
    """
    numbers = {match[1] for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
    odd = sorted(numbers - {str(number) for number in range(len(numbers))}, key=len)
    if odd:
        raise UserError(
            f"{path} has tensors of block {odd[-1]:.40}, but of {len(numbers)} blocks in all, which should be "
            f"0 … {len(numbers) - 1}"
        )
    return len(numbers)


def _ratio(hidden: int, width: int) -> float:
    """The MLP ratio that gives exactly this hidden width when timm multiplies and truncates."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)
