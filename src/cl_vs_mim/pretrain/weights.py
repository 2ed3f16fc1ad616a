"""Encoders to hand on: half the size, and with everything in the header that says how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cl_vs_mim.config import Study
from cl_vs_mim.config.encoders import decides_weights, model_and_seed
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, read_header, require_spec, save_encoder
from cl_vs_mim.pretrain.imported import NATIVE, require_same_making


def export_weights(study: Study, run: str, file: Path, output: Path) -> None:
    """Write a trained encoder in float16, with its recipe and the images that it has seen in the header.

    Args:
        study: whose recipe it was trained by; all of the recipe goes into the header.
        run: stem of the encoder, such as ``moco_v3_seed0``.
        file: the encoder as training exported it.
        output: ``.safetensors``.

    Raises:
        UserError: the file is not of this study's architecture, method, seed or recipe, or a weight is not finite in
            float16.
    """
    name, seed = model_and_seed(study, run)
    if name not in study.models:
        raise UserError(f"{run} is an untrained encoder, drawn from its seed: there is nothing to hand on")
    model = study.models[name]
    _, training = model.recipe()
    architecture = study.architectures[model.architecture]
    encoder = load_encoder(file, NATIVE)
    require_spec(file, encoder, architecture.spec(), model.architecture)
    _, made = read_header(file)
    require_same_making(file, study, name, seed, made)
    decoder = load_decoder(file, NATIVE, encoder) if model.paints else None
    metadata: dict[str, Any] = {**made, "recipe": decides_weights(study, name)}
    metadata.setdefault("images", int(made["steps"]) * training.batch_size)
    save_encoder(output, encoder, metadata, dtype=torch.float16, decoder=decoder)
