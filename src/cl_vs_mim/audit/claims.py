"""``config/claims.yaml`` as validated data: each claim a conjunction of contrasts between encoders.

Adding a claim needs no code: it names a table, the rows of it, the encoders, the depths, and the margin.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator

from cl_vs_mim.audit.contrasts import Contrast, Control, Enters, Heads, Share, Where
from cl_vs_mim.audit.vocabulary import unknown_names
from cl_vs_mim.config.places import read_placed, with_place
from cl_vs_mim.config.sections import Name, Range, Section, Seed
from cl_vs_mim.config.validation import describe
from cl_vs_mim.core.errors import UserError, nearest
from cl_vs_mim.figures.figure import FIGURES, file_name

# ------------------------------------------------------------------------------------------------
# Claims
# ------------------------------------------------------------------------------------------------


class Claim(Section):
    """A statement of the paper, in our words, and how it is measured."""

    statement: str
    figure: str  # file name of the figure that shows it
    strength: Literal["strong", "medium", "weak"]  # strong: headline; medium: a figure's text; weak: our sharpening
    unit: str = ""
    control: Control | None = None  # how the untrained encoders enter its contrasts; a contrast may say otherwise
    contrasts: list[Contrast] = Field(default_factory=list)
    any_group: bool = False  # it is enough that all contrasts of one group hold
    needs: list[Contrast] = Field(default_factory=list)  # without these the question cannot be asked (of their group)
    beside: list[Contrast] = Field(default_factory=list)  # reported, and not judged
    not_tested: str = ""  # why there is no contrast
    note: str = ""

    @model_validator(mode="after")
    def _measured_or_not(self) -> Claim:
        if bool(self.contrasts) == bool(self.not_tested):
            raise ValueError("give either contrasts, or not_tested with the reason")
        if self.any_group != any(one.group for one in self.contrasts):
            raise ValueError("any_group and the groups of contrasts go together")
        for one in self.contrasts:
            if one.control is None and self.control is None:
                raise ValueError(f"{one.name}: say how the untrained encoders enter (control), and why")
            if one.smallest is None and one.published is None and not one.margin:
                raise ValueError(f"{one.name}: nothing is published; say which effect is the smallest that matters")
        return self

    def enters(self, contrast: Contrast) -> Enters:
        """How the untrained encoders enter one of its contrasts."""
        found = contrast.control or self.control
        return found.enters if found else "none"


class Rule(Section):
    """What the rules of the verdict leave to be fixed before a study is run."""

    version: PositiveInt
    date: date
    smallest_share: Share = 0.25  # of the published value: the smallest effect that matters, where nothing else is said
    least_seeds: PositiveInt = 3  # of every trained encoder, for a verdict that is not limited to these
    least_control_seeds: PositiveInt = 5  # of every untrained one that enters, and as many as of the trained ones


class Simulation(Section):
    """Which studies are simulated for the table of the rules' error rates."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    most_seeds: Annotated[int, Field(ge=1, le=100)] = 10
    effects: list[Annotated[float, Field(ge=0, le=100)]] = Field(
        default_factory=lambda: [0.0, 1.0, 3.0]
    )  # sd between seeds
    replicates: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    seed: Seed = 0
    published_seeds: list[Annotated[int, Field(ge=1, le=100)]] = Field(
        default_factory=lambda: [3]
    )  # of every encoder, a perfect replication
    published_draws: Annotated[int, Field(ge=1, le=1_000_000)] = 100  # studies with noise of their own


# ------------------------------------------------------------------------------------------------
# Beside the claims
# ------------------------------------------------------------------------------------------------


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
    depths: Range = (0.0, 1e9)  # of the published curve, in blocks


def _mean_alone() -> list[Heads]:
    return ["mean"]


class Multiverse(Section):
    """Free choices that every claim is measured again with, wherever its tables have them."""

    heads: list[Heads] = Field(default_factory=_mean_alone)  # the first one is that of the verdict
    images: list[Share] = Field(default_factory=lambda: [1.0])
    shifts: list[Annotated[float, Field(ge=-1, le=1)]] = Field(
        default_factory=lambda: [0.0]
    )  # of the inner ends of depth windows, relative depth
    controls: list[Enters] = Field(default_factory=list)  # instead of what the claim says

    @model_validator(mode="after")
    def _starts_with_the_verdict(self) -> Multiverse:
        if (self.heads[:1], self.images[:1], self.shifts[:1]) != (["mean"], [1.0], [0.0]):
            raise ValueError("the first choices must be those of the verdict: heads mean, images 1, shifts 0")
        return self


class ClaimFile(Section):
    """The whole file."""

    rule: Rule
    models: list[Name] = Field(default_factory=list)  # that terms name, besides cl and mim; studies may lack some
    simulation: Simulation = Field(default_factory=Simulation)
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
    unknown = [
        f"claims.{number}.figure: there is no figure {claim.figure!r}{nearest(claim.figure, figures)}"
        for number, claim in file.claims.items()
        if claim.figure not in figures
    ] + list(unknown_names(file))
    if unknown:
        problems = "\n".join(f"  {with_place(message, raw)}" for message in dict.fromkeys(unknown))
        raise UserError(f"claims {path} are not valid:\n{problems}")
    return file


def claimed_figures(file: ClaimFile) -> list[str]:
    """Names of the figures that the claims name, each once, in their order."""
    return list(dict.fromkeys(claim.figure for claim in file.claims.values()))
