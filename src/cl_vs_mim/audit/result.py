"""What ``claims.json`` holds, and its JSON schema."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cl_vs_mim.audit.contrasts import Enters
from cl_vs_mim.audit.verdict import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, NOT_TESTED, ON_THESE, SUPPORTED

VERDICTS = (  # in the order of the report
    SUPPORTED,
    SUPPORTED + ON_THESE,
    INCONCLUSIVE,
    EQUIVALENT + ON_THESE,
    EQUIVALENT,
    CONTRADICTED + ON_THESE,
    CONTRADICTED,
    NOT_TESTED,
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EffectRecord(_Record):
    """A number with its interval; null where there is none."""

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    effect_size: float | None


class TableRecord(_Record):
    """A table that a number comes from."""

    path: str
    sha256: str
    command: str
    head: dict[str, str]
    seed: int | None = None


class OwnRecord(_Record):
    """An encoder's number minus that of its own untrained encoder."""

    encoder: str
    value: float
    low: float
    high: float


class PredictionRecord(_Record):
    """Where a study of this scale, with one seed of each encoder and as many images, would find a published number."""

    low: float
    high: float
    holds: bool  # whether the published number lies in it


class ContrastRecord(_Record):
    """One measured contrast; of several depths, the least."""

    name: str
    group: str
    margin: float
    smallest: float  # effect beyond the margin that matters
    why_smallest: str  # empty: the share of the published value that the rule states
    enters: Enters  # how the untrained encoders do
    why_enters: str
    published: float | None
    prediction: PredictionRecord | None  # null: nothing is published, or one seed only
    code: str  # where the metric is computed
    depth: str  # at which it is weakest; empty: it is not asked at several
    effect: EffectRecord
    beyond_control: EffectRecord | None
    own: list[OwnRecord]
    untrained: EffectRecord | None  # the contrast of the untrained encoders; null: not asked to differ from it
    p_value: float  # of support
    seeds: int
    images: int
    tables: list[str]  # paths; what they are stands in Report.tables


class Universe(_Record):
    """One combination of free choices, and what it says."""

    choices: dict[str, str]
    verdict: str
    effects: list[EffectRecord]  # in the order of the claim's contrasts


class ClaimRecord(_Record):
    """One claim and its verdict."""

    statement: str
    figure: str
    strength: Literal["strong", "medium", "weak"]
    unit: str
    note: str
    verdict: Literal[VERDICTS]  # type: ignore[valid-type]
    reason: str
    decided_by: str  # name of the contrast that the reason speaks of; empty: none was measured
    contrasts: list[ContrastRecord]
    beside: list[ContrastRecord]
    needs: list[ContrastRecord]
    p_value: float | None
    p_holm: float | None
    seeds: int
    control_seeds: int | None  # null: no untrained encoder enters
    images: int
    multiverse: list[Universe]  # distinct analyses: combinations that come to the same numbers stand here once
    agreeing: int  # universes with the verdict's direction
    command: str


class AgreementRecord(_Record):
    """One published curve beside ours."""

    name: str
    figure: str
    model: str
    points: int
    rank_correlation: EffectRecord | None
    distance: EffectRecord | None
    reason: str  # why there is none


class RegistrationRecord(_Record):
    """The version of claims and rules that judged."""

    version: int
    date: str
    claims: str  # sha256
    rules: str  # sha256
    registered: bool  # whether config/preregistration.yaml holds it
    before_the_study: bool  # and says that this study was run under it


class Report(_Record):
    """The audit of one study."""

    study: str
    title: str
    reduced: bool
    expectation: str
    scale: int  # weights of the blocks of the pair's first encoder
    level: float
    registration: RegistrationRecord
    resamples: int  # of the curves beside the published ones
    smallest_share: float  # of the published value: the smallest effect that matters, where nothing else is said
    least_seeds: int  # for a verdict that is not limited to these encoders
    least_control_seeds: int
    head: dict[str, str]
    verdicts: dict[str, int]
    claims: dict[str, ClaimRecord]
    agreement: list[AgreementRecord]
    tables: dict[str, TableRecord]


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of ``claims.json``."""
    schema = Report.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
