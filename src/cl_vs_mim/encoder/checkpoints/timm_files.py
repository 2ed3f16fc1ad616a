"""Encoders of timm by their tags: what timm's registry says of one, its file, and the file's tensors.

A file is opened by the same reader as all others. Where its names are those of the publisher and not timm's, they go
through timm's own table of names for that architecture, and all tensors must then be those of the network, no more and
no fewer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError, nearest
from cl_vs_mim.core.untrusted import reason, require_regular
from cl_vs_mim.encoder.checkpoints.agreement import require_same_answer
from cl_vs_mim.encoder.checkpoints.containers import CONTAINERS, state_dict
from cl_vs_mim.encoder.checkpoints.files import fill_encoder
from cl_vs_mim.encoder.checkpoints.official import read_content
from cl_vs_mim.encoder.families import FAMILIES
from cl_vs_mim.encoder.families.timm_vit import create
from cl_vs_mim.encoder.model import IMAGENET_MEAN, IMAGENET_STD, Encoder, EncoderSpec

_HEADS = ("head.", "head_dist.", "mask_token")  # beside the encoder in timm's files


def load_timm(path: Path, spec: EncoderSpec, tag: str) -> Encoder:
    """Read the encoder of a tag of timm's from a file, in float32, on the CPU and in evaluation mode.

    Args:
        path: as timm distributes it (safetensors, or what ``torch.save`` wrote), or as its publisher does where timm
            reads that.
        spec: of family ``timm_vit``.
        tag: timm's name with its tag, such as ``vit_small_patch14_dinov2.lvd142m``.

    Raises:
        UserError: the specification is not that of the tag; and as of :func:`read_timm`.
    """
    require_own(spec, tag)
    return read_timm(path, spec)


def read_timm(path: Path, spec: EncoderSpec) -> Encoder:
    """:func:`load_timm` of an encoder that has timm's architecture in sizes of its own, and so no tag.

    Raises:
        UserError: the file is missing, damaged or of another network, or what is seen inside is not what the network
            computes.
    """
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist; fetch it and give its path")
    require_regular(path, "checkpoint")
    state = _unwrapped(state_dict(path, "timm", read_content(path)))
    encoder = fill_encoder(path, spec, _under_names_of_timm(path, spec, state))
    require_same_answer(path, encoder)
    return encoder


def require_own(spec: EncoderSpec, tag: str) -> None:
    """Refuse a specification that is not what timm says of this tag; nothing is taken over unsaid.

    Raises:
        UserError: timm has no such tag, or the specification differs; every difference is listed.
    """
    from timm.models import get_pretrained_cfg, is_model_pretrained, list_pretrained

    variant, _, _ = tag.partition(".")
    config = get_pretrained_cfg(tag) if is_model_pretrained(tag) else None
    if config is None:
        raise UserError(f"timm has no pretrained {tag!r}{nearest(tag, list_pretrained())}; give its name with its tag")
    with torch.device("meta"):
        own = create(variant)
    first = own.blocks[0]
    pairs: dict[str, tuple[Any, Any]] = {  # timm's, the specification's
        "variant": (variant, spec.variant),
        "image_size": (tuple(config.input_size[1:]), (spec.image_size,) * 2),
        "patch_size": (own.patch_embed.patch_size, (spec.patch_size,) * 2),
        "width": (own.embed_dim, spec.width),
        "depth": (len(own.blocks), spec.depth),
        "heads": (first.attn.num_heads, spec.heads),
        "layer_norm_eps": (first.norm1.eps, spec.layer_norm_eps),
        "pixel_mean": (tuple(config.mean), spec.pixel_mean or IMAGENET_MEAN),
        "pixel_std": (tuple(config.std), spec.pixel_std or IMAGENET_STD),
    }
    differences = [
        f"{name}: {_plain(theirs)}, not {_plain(stated)}"
        for name, (theirs, stated) in pairs.items()
        if theirs != stated
    ]
    if differences:
        raise UserError(f"the architecture is not that of timm's {tag}, which has\n  " + "\n  ".join(differences))


def _plain(value: Any) -> Any:
    """One number for a square's two sides, a list for others."""
    if not isinstance(value, tuple):
        return value
    return value[0] if len(value) == 2 and value[0] == value[1] else list(value)


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


def fetched(tag: str) -> Path:
    """The file of a tag from the hub, through its own cache.

    Raises:
        UserError: timm knows no file for it on the hub, or it cannot be fetched; what to do by hand is said.
    """
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(tag)
    repository = getattr(config, "hf_hub_id", None)
    if not repository:
        raise UserError(f"timm names no file on the hub for {tag!r}; fetch it and give it as timm.file")
    name = config.hf_hub_filename or "model.safetensors"
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the network fails in many ways
        raise UserError(
            f"{tag}: {name} of {repository} cannot be fetched ({reason(error)}); fetch it elsewhere and give it as "
            "timm.file"
        ) from error


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what training code put in front of all names."""
    tensors = dict(state)
    wrappers = CONTAINERS["timm"].wrappers
    while prefix := next((one for one in wrappers if all(name.startswith(one) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _under_names_of_timm(path: Path, spec: EncoderSpec, state: dict[str, Tensor]) -> dict[str, Tensor]:
    assert spec.variant is not None
    with torch.device("meta"):
        network = FAMILIES[spec.family].build(spec)
    wanted = network.state_dict()
    tensors = _encoder_of(state, wanted)
    if tensors.keys() == wanted.keys():
        return tensors
    _require_grid(path, spec, {0, 1, int(network.num_prefix_tokens)}, state)
    try:
        return _encoder_of(_renaming(spec.variant)(dict(state), network), wanted)
    except Exception as error:  # it was written for whole files of the right kind
        raise UserError(
            f"{path} has neither timm's names for {spec.variant} nor those that timm knows it by ({reason(error)})"
        ) from error


def _renaming(variant: str) -> Callable[[dict[str, Tensor], nn.Module], Mapping[str, Any]]:
    """timm's table of the names that publishers gave."""
    from timm.models import model_entrypoint

    module = model_entrypoint(variant).__module__
    rename = sys.modules[module].checkpoint_filter_fn  # type: ignore[attr-defined]
    return partial(rename, adapt_layer_scale=True) if module.endswith(".deit") else rename


def _require_grid(path: Path, spec: EncoderSpec, prefix: set[int], state: Mapping[str, Tensor]) -> None:
    """timm would resample positions and patches of other sizes; here they are what they were trained as.

    ``prefix`` is how many rows a table of positions may have beside those of the patches.
    """
    for name, tensor in state.items():
        rows = tensor.shape[-2] if tensor.ndim in (2, 3) else 0
        if name.endswith("pos_embed") and rows - spec.grid**2 not in prefix:
            raise UserError(
                f"{path}: its positions {tuple(tensor.shape)} are for another grid than {spec.grid}x{spec.grid}; give "
                "the size it was trained at (positions are not interpolated)"
            )
        if name.endswith("patch_embed.proj.weight") and tensor.shape[2:] != (spec.patch_size,) * 2:
            raise UserError(f"{path}: its patches are {tuple(tensor.shape[2:])} px, not {spec.patch_size}")


def _encoder_of(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the classifier and what else lies beside an encoder in timm's files."""
    return {name: tensor for name, tensor in state.items() if name in wanted or not name.startswith(_HEADS)}
