"""What every part of the YAML is made of: a frozen section without unknown keys, and the kinds of values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cl_vs_mim.core.files import sha256_json

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Quality = Annotated[int, Field(ge=50, le=100)]  # of JPEG
NAME = r"[a-z][a-z0-9_]*"  # of studies, models, architectures
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
Range = tuple[float, float]


class Section(BaseModel):
    """A part of the YAML: frozen, and with no key that is not declared here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def digest(self) -> str:
        """Hex sha256 of the section with every default written out."""
        return sha256_json(self.model_dump(mode="json"))
