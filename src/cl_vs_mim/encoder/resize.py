"""An encoder on images of another size: its positions resampled to another grid of patches."""

from __future__ import annotations

import dataclasses

from timm.layers import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from torch import Tensor

from cl_vs_mim.encoder.model import Encoder, build_encoder

_CLS_ROWS = 3  # the last rows of a relative position table: CLS to patch, patch to CLS, CLS to CLS


def resized_bias_table(table: Tensor, rows: int, columns: int) -> Tensor:
    """A relative position table ((2g-1)^2 + 3, H) for another grid, bicubic as in BEiT; rows of CLS stay."""
    count = (2 * rows - 1) * (2 * columns - 1) + _CLS_ROWS
    return resize_rel_pos_bias_table_simple(table, (rows, columns), (count, table.shape[1]))


def at_grid(encoder: Encoder, grid: int) -> Encoder:
    """A copy that takes images of ``grid`` x ``grid`` patches; all weights but the positions are the same.

    Absolute positions are resampled too (bicubic, as in DINO), also those of sines and cosines, which at the encoder's
    own scale would place the new patches where no patch was during training.
    """
    spec = dataclasses.replace(encoder.spec, image_size=grid * encoder.spec.patch_size)
    other = build_encoder(spec, seed=0).to(next(encoder.parameters()).device)
    state = {
        name: value for name, value in encoder.state_dict().items() if not name.endswith("relative_position_index")
    }
    for name, value in state.items():
        if name.endswith("pos_embed"):
            state[name] = resample_abs_pos_embed(value, [grid, grid], num_prefix_tokens=1)
        elif name.endswith("relative_position_bias_table"):
            state[name] = resized_bias_table(value, grid, grid)
    missing, unexpected = other.load_state_dict(state, strict=False)
    if unexpected or any(not name.endswith("relative_position_index") for name in missing):
        raise ValueError(f"weights do not fit another grid: missing {missing}, unexpected {unexpected}")
    return other.train(encoder.training).requires_grad_(next(encoder.parameters()).requires_grad)
