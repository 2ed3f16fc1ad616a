"""Encoders from files: our own safetensors, and the containers in which the five methods were published."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.untrusted import require_regular
from cl_vs_mim.encoder.checkpoints.agreement import require_same_answer
from cl_vs_mim.encoder.checkpoints.containers import containers
from cl_vs_mim.encoder.checkpoints.decoders import load_decoder
from cl_vs_mim.encoder.checkpoints.files import verify_sha256
from cl_vs_mim.encoder.checkpoints.native import is_native, load_native, read_header, save_encoder
from cl_vs_mim.encoder.checkpoints.official import load_official, published_forms
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.spec import EncoderSpec

__all__ = ["load_decoder", "load_encoder", "read_header", "require_spec", "save_encoder"]


def load_encoder(
    path: Path,
    family: str,
    *,
    img_size: int | None = None,
    patch_size: int | None = None,
    num_heads: int | None = None,
    layer_norm_eps: float | None = None,
    sha256: str | None = None,
) -> Encoder:
    """Read an encoder from a file, in float32, on the CPU and in evaluation mode.

    Width, depth, MLP ratio, LayerScale and the kind of positions are read off the tensors; every tensor is either
    used or on the family's list of dropped ones. No part of a file is run as code. Of all but native files, the pass
    that looks inside is compared with the network's own forward on two images.

    Args:
        path: the checkpoint.
        family: ``"moco_v3" | "simmim" | "mae" | "dino" | "ibot" | "beit"`` for the original containers,
            ``"openmmlab" | "openmmlab_beit"`` for those of mmselfsup and mmpretrain, ``"timm"`` for a state dict of
            timm's ``VisionTransformer``, ``"native"`` for a file of :func:`save_encoder`, or the name of a container
            that an architecture family brings along.
        img_size: side of the input image, px.
        patch_size: side of a patch, px.
        num_heads: attention heads; no tensor's shape tells it (MoCo v3's ViT-S has 12, timm's has 6).
            A native file states all three itself; given all the same, they must agree with it.
        layer_norm_eps: added to variances by every LayerNorm, which no tensor tells either; 1e-6 by default, as in all
            of the original containers. A native file states it.
        sha256: hex digest of the file, checked before anything in it is parsed.

    Raises:
        UserError: the file is missing, damaged, of another family or shape than stated, or would run code; the
            message names the file, and the tensors that are missing or left over. What is seen inside is not what the
            network computes.
    """
    path = Path(path)
    known = [*containers(), "native"]
    if family not in known:
        raise UserError(f"unknown checkpoint family {family!r}; known: {', '.join(known)}")
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist; train it, or fetch it and give its path")
    require_regular(path, "checkpoint")
    for name, value in {"img_size": img_size, "patch_size": patch_size, "num_heads": num_heads}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"{path}: {name}={value!r} was given; it should be a positive whole number")
    if sha256 is not None:
        verify_sha256(path, sha256)
    given = {"img_size": img_size, "patch_size": patch_size, "num_heads": num_heads}
    if family == "native":
        try:
            return load_native(path, given | {"layer_norm_eps": layer_norm_eps})
        except UserError as error:
            others = [] if is_native(path) else published_forms(path)
            if not others:
                raise
            raise UserError(f"{error}\n  its form is that of format: {' or '.join(others)}") from error
    if img_size is None or patch_size is None or num_heads is None:
        missing = [name for name, value in given.items() if value is None]
        raise UserError(f"{path}: give {', '.join(missing)}; a checkpoint of family {family!r} does not state them")
    verified = sha256 is not None
    encoder = load_official(
        path, family, img_size, patch_size, num_heads, layer_norm_eps=layer_norm_eps, verified=verified
    )
    require_same_answer(path, encoder)
    return encoder


def require_spec(path: Path, encoder: Encoder, wanted: EncoderSpec, name: str) -> None:
    """Refuse an encoder that is not of this architecture; stochastic depth, which is of training only, does not count.

    Args:
        path: the file that it came from.
        encoder: what was read.
        wanted: the architecture's specification.
        name: of the architecture.

    Raises:
        UserError: with every difference.
    """
    there, asked = asdict(encoder.spec), asdict(wanted)
    differences = [
        f"{field} {there[field]} instead of {asked[field]}"
        for field in asked
        if field != "drop_path" and there[field] != asked[field]
    ]
    if differences:
        raise UserError(f"{path} is not of architecture {name!r}: {', '.join(differences)}")
