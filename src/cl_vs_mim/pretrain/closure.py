"""Which code decides the weights of a training: the trainer and what is trained, and nothing around them."""

from __future__ import annotations

from cl_vs_mim.config.objective import OBJECTIVES

DECIDES_NO_RESULT = True

TRAINER = "cl_vs_mim.pretrain.trainer"


def training_code(method: str) -> tuple[str, ...]:
    """Modules whose closure is what retrains an encoder of this method: an edit of another method does not.

    Raises:
        UserError: there is no such method.
    """
    return (TRAINER, OBJECTIVES.module(method))
