"""``config/claims.yaml`` as validated data: each claim a conjunction of contrasts between encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from cl_vs_mim.config.sections import Name, Section
from cl_vs_mim.config.validation import UniqueKeyLoader, describe
from cl_vs_mim.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]


class Term(Section):
    """One number of one encoder: its values at some depths, reduced."""

    model: str  # cl or mim (of the study's pair), uniform, or the name of a model
    depths: tuple[Share, Share] = (0.0, 1.0)  # relative: 0 the first depth that the table has, 1 the last
    over: Literal["mean", "max", "min", "first", "last"] = "mean"  # of those depths


class Contrast(Section):
    """``more`` minus ``less`` should exceed the margin."""

    name: str
    table: Name  # kind of table, such as attention
    where: dict[str, str | float | int] = Field(default_factory=dict)  # columns and the value they should have
    rank_fraction: Share | None = None  # of spectra: the rank at this share of all
    highest_frequency: bool = False  # of Fourier tables: the highest one only
    more: Term
    less: Term
    margin: float = 0.0

    @model_validator(mode="after")
    def _two_terms(self) -> Contrast:
        if self.more == self.less:
            raise ValueError(f"{self.name}: more and less are the same; the effect is always 0")
        return self


class Claim(Section):
    """A statement of the paper, in our words, and how it is measured."""

    statement: str
    figure: str  # file name of the figure that shows it
    strength: Literal["strong", "medium", "weak"]  # strong: headline; medium: a figure's text; weak: our sharpening
    about_training: bool = True  # what training does, so that the untrained architectures must differ less
    published: float | None = None  # the published value of the first contrast, where known
    unit: str = ""
    contrasts: list[Contrast] = Field(default_factory=list)
    not_tested: str = ""  # why there is no contrast
    note: str = ""

    @model_validator(mode="after")
    def _measured_or_not(self) -> Claim:
        if bool(self.contrasts) == bool(self.not_tested):
            raise ValueError("give either contrasts, or not_tested with the reason")
        return self


class _File(Section):
    claims: dict[Annotated[str, Field(pattern=r"^C\d+[a-z]?$")], Claim]


def load_claims(path: Path) -> dict[str, Claim]:
    """Read and check the file.

    Raises:
        UserError: it is missing, is not YAML, or a claim is not valid; all problems are listed.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"claims {path} cannot be read: {error}") from error
    try:
        return _File.model_validate({"claims": raw}).claims
    except ValidationError as error:
        problems = "\n".join(f"  {describe(detail, {'claims': raw}, _File)}" for detail in error.errors())
        raise UserError(f"claims {path} are not valid:\n{problems}") from error
