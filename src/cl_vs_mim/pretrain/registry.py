"""From the ``objective`` section of a model in the YAML to the class that trains it."""

from __future__ import annotations

from cl_vs_mim.config import Architecture, Model
from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.pretrain.objective import Objective


def build_objective(model: Model, architecture: Architecture, seed: int) -> Objective:
    """An untrained objective around an untrained encoder, every weight drawn from ``seed``.

    The encoder is the one of ``build_encoder(spec, seed)``: all methods of one architecture start from the same
    weights, and those are the untrained control's.

    Raises:
        UserError: there is no method of this name.
    """
    config, training = model.recipe()
    encoder = build_encoder(architecture.spec(training.drop_path), seed)
    with global_randomness(seed, "heads"):
        return OBJECTIVES[config.method](encoder, config)
