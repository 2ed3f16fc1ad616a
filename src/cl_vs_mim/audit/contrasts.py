"""A contrast of ``config/claims.yaml`` as validated data: which numbers of which encoders, and their margin."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cl_vs_mim.config.sections import Name, Ordered, Section

Share = Annotated[float, Field(ge=0, le=1)]
Value = str | float | int
Where = dict[str, Value | list[Value]]  # a list: any of these, averaged
Heads = Literal["mean", "median", "max", "min"]
Enters = Literal["exceed", "beat", "differ", "none"]


class Decision(Section):
    """A share: of the rows whose ``column`` is one of ``among``, those where it is one of ``equals``."""

    column: Name
    equals: list[str]
    among: list[str] = Field(default_factory=list)  # empty: of all rows
    least: Annotated[int, Field(ge=2)] = 2  # objects of which an encoder decides an image so, or the share says nothing


class Term(Section):
    """One number of one encoder: its values at some depths, reduced.

    ``max`` and ``min`` choose a depth: by one half of the images (and by the other seeds, where there are several), and
    its value is that of the other half (and of this seed), because a depth is not to be judged by what chose it.
    """

    model: str  # cl or mim (the study's pair), these with _untrained, :smallest or :largest, or the name of a model
    depths: Annotated[tuple[Share, Share], Ordered] = (
        0.0,
        1.0,
    )  # relative: 0 the first depth that the table has, 1 the last
    over: Literal["mean", "max", "min", "first", "last"] = "mean"  # of those depths
    table: Name | None = None  # instead of the contrast's
    where: Where = Field(default_factory=dict)  # beside the contrast's, and instead of it where both name a column


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Terms = Annotated[list[Term], BeforeValidator(_listed)]


class Control(Section):
    """How the untrained encoders of the same architectures enter a contrast, and why so.

    ``exceed``: the contrast minus theirs must lie on the same side of 0, by the smallest effect that
    matters. ``beat``: each encoder must lie above its own untrained one (accuracies).
    ``differ``: each must differ from its own, in whichever direction. ``none``: not at all.
    """

    enters: Enters
    reason: str


class Smallest(Section):
    """The smallest effect that matters, beyond the margin, in the units of the table, and why it is this one."""

    value: float = Field(ge=0)
    reason: str


class Alternative(Section):
    """Another reasonable reading of a contrast, for the multiverse."""

    name: str
    table: Name | None = None
    where: Where = Field(default_factory=dict)
    rank_fraction: Share | None = None
    decision: Decision | None = None
    together: bool = False  # the mean of the window, instead of every depth of it


class Contrast(Section):
    """The sum of ``more`` minus the sum of ``less`` should exceed the margin."""

    name: str
    table: Name  # kind of table, such as attention
    where: Where = Field(default_factory=dict)  # columns and the value they should have
    without: Where = Field(default_factory=dict)  # columns and values whose rows are left out
    decision: Decision | None = None  # instead of the column value
    rank_fraction: Share | None = None  # of spectra: the rank at this share of all
    highest_frequency: bool = False  # of Fourier tables: the highest one only
    per_uniform: bool = False  # attention distances as a share of that of uniform attention
    log: bool = False  # of ratios: their natural logarithms are compared
    more: Terms = Field(default_factory=list)
    less: Terms = Field(default_factory=list)
    # Asked at every depth of a window. both: more and less at the same depth; less: more as it is, against each depth
    # of less; pair: each depth of more against each of less; step: each depth of more against the one before it, less
    # being the same term; alone: each depth of the only term,
    # and as a need in every seed by its value, because it asks what these encoders are and not what training does.
    every: Literal["both", "less", "pair", "step", "alone"] | None = None
    margin: float = 0.0
    smallest: Smallest | None = None  # None: a share of the published value; 0 with a margin, which is a bound
    published: float | None = None  # the paper's value of this contrast, in the units of the table
    control: Control | None = None  # instead of the claim's
    group: str = ""  # of claims with any_group
    alternatives: list[Alternative] = Field(default_factory=list)

    @model_validator(mode="after")
    def _can_vary(self) -> Contrast:
        if (self.more == self.less) != (self.every == "step"):
            what = "step needs the same term twice" if self.every == "step" else "the effect is always 0"
            raise ValueError(
                f"{self.name}: more and less are {'' if self.more == self.less else 'not '}the same; {what}"
            )
        if self.every == "alone" and len(self.signed()) != 1:
            raise ValueError(f"{self.name}: every: alone asks one term")
        if self.every not in (None, "alone") and (len(self.more), len(self.less)) != (1, 1):
            raise ValueError(f"{self.name}: every compares one term with one other")
        if self.every == "both" and self.more[0].depths != self.less[0].depths:
            raise ValueError(f"{self.name}: every: both needs the same depths of both terms")
        return self

    def signed(self) -> list[tuple[int, Term]]:
        """Terms with +1 and -1."""
        return [(1, term) for term in self.more] + [(-1, term) for term in self.less]

    def smallest_effect(self, share: float) -> float:
        """The smallest effect beyond the margin that matters.

        Args:
            share: of the published value, where nothing else is said.
        """
        if self.smallest is not None:
            return self.smallest.value
        return 0.0 if self.margin or self.published is None else share * abs(self.published)


def read_otherwise(contrast: Contrast, alternative: int | None) -> Contrast:
    """The contrast with one of its alternatives in place; as it is where it has none."""
    if alternative is None or alternative >= len(contrast.alternatives):
        return contrast
    other = contrast.alternatives[alternative]
    changed: dict[str, Any] = {"table": other.table or contrast.table, "where": contrast.where | other.where}
    for key in ("rank_fraction", "decision"):
        if getattr(other, key) is not None:
            changed[key] = getattr(other, key)
    if other.together:
        changed["every"] = None
    return contrast.model_copy(update=changed)
