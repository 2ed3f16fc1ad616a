"""A study's audit: every claim measured, judged, varied, and traced back; the content of ``claims.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from cl_vs_mim.audit.agreement import agree
from cl_vs_mim.audit.bootstrap import Effect, Resampling, holm
from cl_vs_mim.audit.claims import Claim, ClaimFile, Contrast, Curve
from cl_vs_mim.audit.measure import Measured, measure
from cl_vs_mim.audit.multiverse import universes
from cl_vs_mim.audit.provenance import snakemake_command, table_name, table_records
from cl_vs_mim.audit.result import (
    VERDICTS,
    AgreementRecord,
    ClaimRecord,
    ContrastRecord,
    EffectRecord,
    Report,
    Universe,
)
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.audit.verdict import CONTRADICTED, NOT_TESTED, Verdict, judge
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import row_head

_DEVICE = torch.device("cpu")  # nothing after a table needs another


class Audit:
    """The claims of a file before the tables of a study.

    Args:
        file: claims, curves, and choices of the multiverse.
        tables: the study's tables.
        reference: the table of published and digitised values.
    """

    def __init__(self, file: ClaimFile, tables: Tables, reference: Path) -> None:
        self.file = file
        self.tables = tables
        self.reference = reference
        options = tables.study.figures.bootstrap
        self.level, self.seed = options.level, options.seed
        self.resampling = Resampling(options.resamples, options.seed)
        self._paths: set[Path] = set()

    # --------------------------------------------------------------------------------------------
    # One claim
    # --------------------------------------------------------------------------------------------

    def judge_claim(self, claim: Claim) -> tuple[Verdict, list[Measured]]:
        """Its verdict and its contrasts; no contrasts where it is not tested here."""
        if claim.not_tested:
            return Verdict(NOT_TESTED, claim.not_tested), []
        groups = len({one.group for one in claim.contrasts}) if claim.any_group else 1
        level = 1 - (1 - self.level) / groups
        try:
            for need in self._measure(claim.needs, False):
                if need.effect.low is None or need.effect.low <= need.margin:
                    return Verdict(NOT_TESTED, f"it does not hold that {need.name}"), []
            measured = self._measure(claim.contrasts, claim.about_training and claim.control, level)
        except UserError as error:
            return Verdict(NOT_TESTED, str(error)), []
        verdict = judge(measured, claim.about_training, control=claim.control, any_group=claim.any_group)
        return verdict, measured

    def _measure(self, contrasts: Iterable[Contrast], controlled: bool, level: float | None = None) -> list[Measured]:
        return [
            measure(self.tables, contrast, controlled, self.resampling, level or self.level) for contrast in contrasts
        ]

    def _measure_if_there(self, contrasts: Iterable[Contrast]) -> list[Measured]:
        """Those whose tables exist: what is only reported with a claim does not decide whether it is tested."""
        found = []
        for contrast in contrasts:
            try:
                found += self._measure([contrast], False)
            except UserError:
                continue
        return found

    def _claim(self, claim: Claim) -> ClaimRecord:
        verdict, measured = self.judge_claim(claim)
        varied = list(universes(claim, self.tables, self.file.multiverse, self.level, self.seed)) if measured else []
        beside, needs = self._measure_if_there(claim.beside), self._measure_if_there(claim.needs)
        elsewhere = [one for universe in varied for one in universe.measured]
        self._paths.update(path for one in (*measured, *beside, *needs, *elsewhere) for path in one.paths)
        return ClaimRecord(
            **claim.model_dump(include={"statement", "figure", "strength", "about_training", "unit", "note"}),
            verdict=verdict.verdict,
            reason=verdict.reason,
            contrasts=self._contrasts(measured, claim.contrasts),
            beside=self._contrasts(beside, claim.beside),
            needs=self._contrasts(needs, claim.needs),
            p_value=p_value(measured, verdict, claim.any_group) if measured else None,
            p_holm=None,
            seeds=min((one.seeds for one in measured), default=0),
            images=min((one.images for one in measured), default=0),
            multiverse=[
                Universe(
                    choices=one.choices,
                    verdict=one.verdict.verdict,
                    effects=[_effect(each.effect) for each in one.measured],
                )
                for one in varied
            ],
            agreeing=sum(one.verdict.kind == verdict.kind for one in varied),
            command=snakemake_command(self.tables.study.study, f"figures/{claim.figure}.pdf"),
        )

    def _contrasts(self, measured: Sequence[Measured], asked: Sequence[Contrast]) -> list[ContrastRecord]:
        published = {one.name: one.published for one in asked}
        return [
            ContrastRecord(
                name=one.name,
                group=one.group,
                margin=one.margin,
                published=published[one.name],
                effect=_effect(one.effect),
                beyond_control=None if one.beyond_control is None else _effect(one.beyond_control),
                p_value=one.effect.p_value,
                seeds=one.seeds,
                images=one.images,
                tables=[table_name(self.tables, path) for path in one.paths],
            )
            for one in measured
        ]

    def _agreement(self, curve: Curve) -> AgreementRecord:
        try:
            found = agree(self.tables, curve, self.reference, self.resampling, self.level)
        except UserError as error:
            return AgreementRecord(
                name=curve.name,
                figure=curve.figure,
                model=curve.model,
                points=0,
                rank_correlation=None,
                distance=None,
                reason=str(error),
            )
        return AgreementRecord(
            name=found.name,
            figure=found.figure,
            model=found.model,
            points=found.points,
            rank_correlation=_effect(found.rank_correlation),
            distance=_effect(found.distance),
            reason="",
        )

    # --------------------------------------------------------------------------------------------
    # All
    # --------------------------------------------------------------------------------------------

    def report(self, data_hash: str, config_hash: str) -> Report:
        """All claims, judged, with Holm's adjustment over those that were tested.

        Args:
            data_hash: hash of the file of claims.
            config_hash: hash of the settings that decide the audit.
        """
        study = self.tables.study
        claims = {
            number: self._claim(claim)
            for number, claim in progress(
                self.file.claims.items(), total=len(self.file.claims), desc="claims", unit="claim"
            )
        }
        adjusted = holm({number: one.p_value for number, one in claims.items() if one.p_value is not None})
        claims |= {number: claims[number].model_copy(update={"p_holm": p}) for number, p in adjusted.items()}
        counted = Counter(one.verdict for one in claims.values())
        return Report(
            study=study.study,
            title=study.title,
            reduced=study.reduced,
            expectation=study.expect.result,
            level=self.level,
            resamples=self.resampling.resamples,
            head=row_head(study=study.study, config_hash=config_hash, data_hash=data_hash, device=_DEVICE),
            verdicts={verdict: counted[verdict] for verdict in VERDICTS},
            claims=claims,
            agreement=[self._agreement(curve) for curve in self.file.curves],
            tables=table_records(self.tables, self._paths),
        )


# ------------------------------------------------------------------------------------------------
# Records
# ------------------------------------------------------------------------------------------------


def _effect(effect: Effect) -> EffectRecord:
    return EffectRecord(
        value=effect.value,
        low=effect.low,
        high=effect.high,
        standard_error=effect.standard_error,
        effect_size=effect.effect_size,
    )


def p_value(measured: Sequence[Measured], verdict: Verdict, any_group: bool) -> float:
    """The p-value of a claim.

    A conjunction holds no more surely than its weakest part, what exceeds the untrained encoders being a part; one
    contradicted part is enough to contradict it, which is paid for by the number of parts; and so is the best of
    several groups.
    """
    if verdict.kind == CONTRADICTED and not any_group:
        below = [one.effect.p_value for one in measured if one.effect.high is not None and one.effect.high < one.margin]
        return min(1.0, len(measured) * min(below))
    groups: dict[str, float] = {}
    for one in measured:
        group = one.group if any_group else ""
        beyond = 0.0 if one.beyond_control is None else _p_above(one.beyond_control, 0.0)
        groups[group] = max(groups.get(group, 0.0), _p_above(one.effect, one.margin), beyond)
    return min(1.0, len(groups) * min(groups.values()))


def _p_above(effect: Effect, margin: float) -> float:
    """1 where the effect lies on the other side: it is then no evidence for the claim, however sure."""
    return effect.p_value if effect.value > margin else 1.0
