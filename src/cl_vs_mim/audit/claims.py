"""``config/claims.yaml`` as validated data: each claim a conjunction of contrasts between encoders.

Adding a claim needs no code: it names a table, the rows of it, the encoders, the depths, and the margin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from cl_vs_mim.config.places import read_placed
from cl_vs_mim.config.sections import Name, Section
from cl_vs_mim.config.validation import describe
from cl_vs_mim.core.errors import UserError, nearest
from cl_vs_mim.figures.figure import FIGURES, file_name

Share = Annotated[float, Field(ge=0, le=1)]
Value = str | float | int
Where = dict[str, Value | list[Value]]  # a list: any of these, averaged
Heads = Literal["mean", "median", "max", "min"]

# ------------------------------------------------------------------------------------------------
# A contrast
# ------------------------------------------------------------------------------------------------


class Decision(Section):
    """A share: of the rows whose ``column`` is one of ``among``, those where it is one of ``equals``."""

    column: Name
    equals: list[str]
    among: list[str] = Field(default_factory=list)  # empty: of all rows


class Term(Section):
    """One number of one encoder: its values at some depths, reduced."""

    model: str  # cl or mim (the study's pair), these with _untrained, :smallest or :largest, or the name of a model
    depths: tuple[Share, Share] = (0.0, 1.0)  # relative: 0 the first depth that the table has, 1 the last
    over: Literal["mean", "max", "min", "first", "last"] = "mean"  # of those depths
    table: Name | None = None  # instead of the contrast's
    where: Where = Field(default_factory=dict)  # beside the contrast's, and instead of it where both name a column


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Terms = Annotated[list[Term], BeforeValidator(_listed)]


class Alternative(Section):
    """Another reasonable reading of a contrast, for the multiverse."""

    name: str
    table: Name | None = None
    where: Where = Field(default_factory=dict)
    rank_fraction: Share | None = None
    decision: Decision | None = None


class Contrast(Section):
    """The sum of ``more`` minus the sum of ``less`` should exceed the margin."""

    name: str
    table: Name  # kind of table, such as attention
    where: Where = Field(default_factory=dict)  # columns and the value they should have
    decision: Decision | None = None  # instead of the column value
    rank_fraction: Share | None = None  # of spectra: the rank at this share of all
    highest_frequency: bool = False  # of Fourier tables: the highest one only
    per_uniform: bool = False  # attention distances as a share of that of uniform attention
    more: Terms = Field(default_factory=list)
    less: Terms = Field(default_factory=list)
    each_depth: bool = False  # the least difference over the depths of the one term of more and the one of less
    margin: float = 0.0
    published: float | None = None  # the paper's value of this contrast, in the units of the table
    group: str = ""  # of claims with any_group
    alternatives: list[Alternative] = Field(default_factory=list)

    @model_validator(mode="after")
    def _can_vary(self) -> Contrast:
        if self.more == self.less:
            raise ValueError(f"{self.name}: more and less are the same; the effect is always 0")
        if self.each_depth and (len(self.more), len(self.less)) != (1, 1):
            raise ValueError(f"{self.name}: each_depth compares one term with one other")
        if self.each_depth and self.more[0].depths != self.less[0].depths:
            raise ValueError(f"{self.name}: each_depth needs the same depths of both terms")
        return self


# ------------------------------------------------------------------------------------------------
# A claim
# ------------------------------------------------------------------------------------------------


class Claim(Section):
    """A statement of the paper, in our words, and how it is measured."""

    statement: str
    figure: str  # file name of the figure that shows it
    strength: Literal["strong", "medium", "weak"]  # strong: headline; medium: a figure's text; weak: our sharpening
    about_training: bool = True  # what training does, so that one seed is not enough
    control: bool = True  # whether the effect of the untrained architectures is subtracted, where it is about training
    unit: str = ""
    contrasts: list[Contrast] = Field(default_factory=list)
    any_group: bool = False  # it is enough that all contrasts of one group hold
    needs: list[Contrast] = Field(default_factory=list)  # without these the question cannot be asked
    beside: list[Contrast] = Field(default_factory=list)  # reported, and not judged
    not_tested: str = ""  # why there is no contrast
    note: str = ""

    @model_validator(mode="after")
    def _measured_or_not(self) -> Claim:
        if bool(self.contrasts) == bool(self.not_tested):
            raise ValueError("give either contrasts, or not_tested with the reason")
        if not self.control and not self.note:
            raise ValueError("say in the note why there is no control")
        if self.any_group != any(one.group for one in self.contrasts):
            raise ValueError("any_group and the groups of contrasts go together")
        return self


class Curve(Section):
    """A published curve over depth, and the curve of ours that it is compared with."""

    name: str
    figure: str  # in reference_values.csv
    panel: str = ""  # there; empty: any
    method: str  # there
    reading_error: float = Field(ge=0)  # of one digitised value, in its units, as the largest error
    scale: float = 1.0  # ours times this has the units of the published values
    model: str  # as in a term
    table: Name
    where: Where = Field(default_factory=dict)
    highest_frequency: bool = False
    per_uniform: bool = False
    depths: tuple[float, float] = (0.0, 1e9)  # of the published curve, in blocks


def _mean_alone() -> list[Heads]:
    return ["mean"]


class Multiverse(Section):
    """Free choices that every claim is measured again with, wherever its tables have them."""

    heads: list[Heads] = Field(default_factory=_mean_alone)  # the first one is that of the verdict
    images: list[Share] = Field(default_factory=lambda: [1.0])
    shifts: list[float] = Field(default_factory=lambda: [0.0])  # of the inner ends of depth windows, relative depth
    resamples: PositiveInt = 400

    @model_validator(mode="after")
    def _starts_with_the_verdict(self) -> Multiverse:
        if (self.heads[:1], self.images[:1], self.shifts[:1]) != (["mean"], [1.0], [0.0]):
            raise ValueError("the first choices must be those of the verdict: heads mean, images 1, shifts 0")
        return self


class ClaimFile(Section):
    """The whole file."""

    multiverse: Multiverse
    claims: dict[Annotated[str, Field(pattern=r"^C\d+[a-z]?$")], Claim]
    curves: list[Curve] = Field(default_factory=list)


def load_claims(path: Path) -> ClaimFile:
    """Read and check the file.

    Raises:
        UserError: it is missing, is not YAML, or a claim is not valid; all problems are listed.
    """
    try:
        raw = read_placed(path, "claims")
    except FileNotFoundError as error:
        raise UserError(
            f"claims {path} cannot be read: it does not exist; the repository has config/claims.yaml"
        ) from error
    try:
        file = ClaimFile.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(f"  {describe(detail, raw, ClaimFile)}" for detail in error.errors())
        raise UserError(f"claims {path} are not valid:\n{problems}") from error
    figures = [file_name(name) for name in FIGURES.names()]
    for number, claim in file.claims.items():
        if claim.figure not in figures:
            raise UserError(
                f"claims {path}: {number}: there is no figure {claim.figure!r}{nearest(claim.figure, figures)}"
            )
    return file


def claimed_figures(file: ClaimFile) -> list[str]:
    """Names of the figures that the claims name, each once, in their order."""
    return list(dict.fromkeys(claim.figure for claim in file.claims.values()))
