"""What a study knows of pre-training methods: that each has a module with its configuration, and nothing by name.

The method that a model names in ``objective.method`` is a module of :mod:`cl_vs_mim.pretrain`, or one of the user's,
which binds the class that trains to ``OBJECTIVE``; that class's ``Config`` says which keys there are. The module is
imported when a study names it, and not before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from cl_vs_mim.config.sections import Section
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.registry import Register

if TYPE_CHECKING:
    import torch

    from cl_vs_mim.config.models import Model
    from cl_vs_mim.config.study import Study

OBJECTIVES = Register("objective", "cl_vs_mim.pretrain", "OBJECTIVE")


class ObjectiveConfig(Section):
    """The section ``objective`` of a model: base of every method's ``Config``.

    A subclass declares ``method: Literal["<name of the module>"]`` and its keys, among them the views that it takes,
    and answers those of the questions below to which the general answer is wrong.

    Attributes:
        paints: whether its decoder turns tokens into images that Figure 11 shows.
        deep_decoder: whether that decoder has blocks, whose tokens Figure 11 follows.
        needs_decoder: whether the decoder of the model that it needs is asked for too.
        trains_tokenizer: whether its models are trained for others (paradigm ``tokenizer``) and not analysed.
    """

    paints: ClassVar[bool] = False
    deep_decoder: ClassVar[bool] = False
    needs_decoder: ClassVar[bool] = False
    trains_tokenizer: ClassVar[bool] = False

    method: str
    # Tensors that are no weights (tokens, positions, tables of relative positions, prototypes) and decay all the same,
    # as some originals have it; by the last part of their names.
    decays: tuple[str, ...] = ()

    def check(self, model: Model, study: Study) -> None:
        """Compare the section with the rest of its study.

        Args:
            model: the model that has this objective.
            study: the whole study, with all its architectures and models.

        Raises:
            ValueError: they contradict each other; the message begins with the key, as seen from the model.
        """

    def decides(self) -> dict[str, Any]:
        """What of the section decides the weights, as plain data; ``decays`` only where it names something."""
        return self.model_dump(mode="json", exclude=set() if self.decays else {"decays"})

    def needs(self) -> str | None:
        """The model of the study whose encoder (of the first seed) has to be trained before."""
        return None

    def given(self) -> str | None:
        """Path of a file that is given instead of such a model."""
        return None

    def wanted_classes(self) -> int | None:
        """How many classes the training images must have; None: it does not look at them."""
        return None

    def mixing(self) -> float:
        """Weight of the contrastive part in a mixture of both kinds, the paper's lambda; NaN for other methods."""
        return math.nan

    def of_decoder(self) -> dict[str, Any]:
        """What a published file of the method does not say of its decoder: arguments of ``load_decoder``."""
        return {}

    def draw_mask(self, grid: int, generator: torch.Generator) -> torch.Tensor:
        """One mask (1, grid, grid) in {0, 1} as in training, 1 being hidden; for methods that paint.

        Raises:
            UserError: it hides nothing.
        """
        raise UserError(f"method {self.method} hides no patches, so there is no mask to draw")


def config_of(method: str) -> type[ObjectiveConfig]:
    """The ``Config`` of a method, from the module that defines it.

    Raises:
        UserError: there is no such method; the nearest name is given.
    """
    return OBJECTIVES[method].Config


def _by_method(value: Any) -> Any:
    """Validate the section by the ``Config`` that its method names; errors keep their place."""
    if not isinstance(value, dict):
        return value
    if "method" not in value:
        raise _error("missing", "Field required", value)
    try:
        config = config_of(str(value["method"]))
    except UserError as error:
        raise _error("objective", str(error), value["method"]) from error
    return config.model_validate(value)


def _error(kind: str, message: str, given: Any) -> ValidationError:
    # braces of the message are no places to fill in
    fault = PydanticCustomError(kind, message.replace("{", "(").replace("}", ")"))  # type: ignore[arg-type]
    return ValidationError.from_exception_data(
        "objective", [InitErrorDetails(type=fault, loc=("method",), input=given)]
    )


Objective = Annotated[SerializeAsAny[ObjectiveConfig], BeforeValidator(_by_method)]
