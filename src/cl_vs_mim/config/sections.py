"""What every part of the YAML is made of: a frozen section without unknown keys, and the kinds of values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, field_validator

from cl_vs_mim.core.files import sha256_json

T = TypeVar("T", bound=Sequence[Any])


# ------------------------------------------------------------------------------------------------
# Checks of more than one number
# ------------------------------------------------------------------------------------------------


def _ordered(values: T) -> T:
    if any(low > high for low, high in pairwise(values)):
        raise ValueError("should be in rising order, the smallest first")
    return values


def _unique(values: T) -> T:
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


def _positive(values: T) -> T:
    if min(values) <= 0:
        raise ValueError("should be greater than 0")
    return values


def _shares(values: T) -> T:
    if not all(0 < value <= 1 for value in values):
        raise ValueError("should be greater than 0 and at most 1")
    return values


# ------------------------------------------------------------------------------------------------
# Kinds of values
# ------------------------------------------------------------------------------------------------

Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a running mean, or of what is dropped at random: 1 would leave nothing
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Pixels = Annotated[int, Field(ge=1, le=8192)]  # of a side
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # tables hold seeds in four bytes
Quality = Annotated[int, Field(ge=50, le=100)]  # of JPEG
NAME = r"[a-z][a-z0-9_]*"  # of studies, models, architectures
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[Range, AfterValidator(_positive)]
ShareRange = Annotated[Range, AfterValidator(_shares)]
Ordered = AfterValidator(_ordered)
Unique = AfterValidator(_unique)
Seeds = Annotated[list[Seed], Field(min_length=1), Unique]


class Section(BaseModel):
    """A part of the YAML: frozen, with no key that is not declared here, and no number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _of_the_same_kind(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        read = handler(value)
        if (taken := _taken_for_another(value, read)) is not None:
            written, kind = taken
            raise ValueError(f"{_as_written(written)} is {_KINDS[type(written)]}, not {_KINDS[kind]}")
        return read

    def digest(self) -> str:
        """Hex sha256 of the section with every default written out."""
        return sha256_json(self.model_dump(mode="json"))


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


def _as_written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _taken_for_another(written: Any, read: Any) -> tuple[Any, type] | None:
    """A value that pydantic reads as one of another kind, such as ``true`` as 1, and that kind; None: there is none."""
    if isinstance(written, list | tuple) and isinstance(read, list | tuple) and len(written) == len(read):
        found = (_taken_for_another(one, other) for one, other in zip(written, read, strict=True))
        return next((one for one in found if one is not None), None)
    if isinstance(written, dict) and isinstance(read, dict):
        found = (_taken_for_another(one, read.get(key)) for key, one in written.items())
        return next((one for one in found if one is not None), None)
    pair = type(written), type(read)
    if pair in ((bool, int), (bool, float), (str, int), (str, float), (str, bool), (int, bool), (float, bool)):
        return written, pair[1]
    return None
