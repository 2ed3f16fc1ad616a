"""From the ``objective`` section of a model in the YAML to the module that trains it."""

from __future__ import annotations

from cl_vs_mim.config import Architecture, Model
from cl_vs_mim.core.randomness import global_randomness
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.pretrain.beit import BEiT
from cl_vs_mim.pretrain.dino import DINO
from cl_vs_mim.pretrain.hybrid import Hybrid
from cl_vs_mim.pretrain.mae import MAE
from cl_vs_mim.pretrain.moco_v3 import MoCoV3
from cl_vs_mim.pretrain.objective import Objective
from cl_vs_mim.pretrain.simmim import SimMIM
from cl_vs_mim.pretrain.supervised import Supervised
from cl_vs_mim.pretrain.vq_tokenizer import VQTokenizer

OBJECTIVES: dict[str, type[Objective]] = {
    "beit": BEiT,
    "dino": DINO,
    "hybrid": Hybrid,
    "mae": MAE,
    "moco_v3": MoCoV3,
    "simmim": SimMIM,
    "supervised": Supervised,
    "vq_tokenizer": VQTokenizer,
}


def build_objective(model: Model, architecture: Architecture, seed: int) -> Objective:
    """An untrained objective around an untrained encoder, every weight drawn from ``seed``.

    The encoder is the one of ``build_encoder(spec, seed)``: all methods of one architecture start from the same
    weights, and those are the untrained control's.
    """
    encoder = build_encoder(architecture.spec(model.training.drop_path), seed)
    with global_randomness(seed, "heads"):
        return OBJECTIVES[model.objective.method](encoder, model.objective)
