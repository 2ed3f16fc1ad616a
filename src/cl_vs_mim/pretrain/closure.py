"""Which code decides the weights of a training: the trainer and what is trained, and nothing around them."""

from __future__ import annotations

from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.encoder.families import FAMILIES

DECIDES_NO_RESULT = True

TRAINER = "cl_vs_mim.pretrain.trainer"


def training_code(method: str, family: str) -> tuple[str, ...]:
    """Modules whose closure is what retrains an encoder of this method and family: an edit of another method does not.

    Raises:
        UserError: there is no such method, or no such family.
    """
    return (TRAINER, OBJECTIVES.module(method), FAMILIES.module(family))
