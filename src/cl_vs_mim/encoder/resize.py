"""An encoder on images of another size: its positions resampled to another grid of patches."""

from __future__ import annotations

import dataclasses

from cl_vs_mim.encoder.model import Encoder, build_encoder


def at_grid(encoder: Encoder, grid: int) -> Encoder:
    """A copy that takes images of ``grid`` x ``grid`` patches; all weights but the positions are the same.

    How positions are resampled is the family's matter.
    """
    spec = dataclasses.replace(encoder.spec, image_size=grid * encoder.spec.patch_size)
    other = build_encoder(spec, seed=0).to(next(encoder.parameters()).device)
    state, kept = encoder.backbone.state_dict(), other.backbone.state_dict()
    if set(state) != set(kept):
        raise ValueError(f"weights do not fit another grid: {sorted(set(state) ^ set(kept))} are in one of them only")
    for name, value in state.items():
        resized = encoder.family.resized(name, value, kept[name], grid)
        if resized is not None:
            kept[name] = resized
    other.backbone.load_state_dict(kept)
    return other.train(encoder.training).requires_grad_(next(encoder.parameters()).requires_grad)
