"""Decoders from files: our own, and those of the official MAE and SimMIM containers."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints.files import described, fill_decoder
from cl_vs_mim.encoder.checkpoints.native import load_native_decoder
from cl_vs_mim.encoder.checkpoints.official import count_blocks, read_tensors
from cl_vs_mim.encoder.decoders import Decoder, DecoderSpec
from cl_vs_mim.encoder.model import Encoder

# Official names to ours, tried in order; what none of them matches is the encoder's.
_NAMES = {
    "mae": {
        r"mask_token": "mask_token",
        r"decoder_pos_embed": "positions",
        r"decoder_embed\.(.+)": r"embed.\1",
        r"decoder_blocks\.(.+)": r"blocks.\1",
        r"decoder_norm\.(.+)": r"norm.\1",
        r"decoder_pred\.(.+)": r"predict.\1",
    },
    "simmim": {r"encoder\.mask_token": "mask_token", r"decoder\.0\.(.+)": r"head.0.\1"},
}


def load_decoder(
    path: Path, family: str, encoder: Encoder, *, num_heads: int | None = None, norm_pix: bool | None = None
) -> Decoder:
    """Read the decoder that was trained with an encoder, in float32 and evaluation mode.

    Args:
        path: the checkpoint that ``encoder`` came from.
        family: ``"native"``, ``"mae"`` or ``"simmim"``.
        encoder: what :func:`cl_vs_mim.encoder.checkpoints.load_encoder` made of the same file.
        num_heads: heads of MAE's decoder; no tensor's shape tells their number (the official ones have 16).
        norm_pix: whether MAE was trained on normalised patches, which no tensor tells either.

    Raises:
        UserError: the family has no decoder, the file holds none, or its tensors are not those of this decoder.
    """
    path = Path(path)
    if family == "native":
        return load_native_decoder(path, encoder)
    if family not in _NAMES:
        raise UserError(f"checkpoints of family {family!r} have no decoder; known: {', '.join([*_NAMES, 'native'])}")
    tensors = _renamed(read_tensors(path, family), _NAMES[family])
    if family == "simmim":
        return fill_decoder(path, encoder, DecoderSpec(method="simmim"), tensors)
    if num_heads is None or norm_pix is None:
        raise UserError(f"{path}: give num_heads and norm_pix; a checkpoint of family 'mae' does not state them")
    if "blocks.0.mlp.fc1.weight" not in tensors:
        raise UserError(f"{path} holds no decoder; fetch the checkpoint that was published for pre-training")
    hidden, width = (*tensors["blocks.0.mlp.fc1.weight"].shape, 0, 0)[:2]
    fields = {
        "method": "mae",
        "width": width,
        "depth": count_blocks(path, tensors),
        "heads": num_heads,
        "mlp_ratio": hidden / max(width, 1),
        "norm_pix": norm_pix,
    }
    spec = described(path, DecoderSpec, fields)
    return fill_decoder(path, encoder, spec, tensors)


def _renamed(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, ours in names.items():
            if re.fullmatch(pattern, name):
                renamed[re.sub(pattern, ours, name)] = tensor
    return renamed
