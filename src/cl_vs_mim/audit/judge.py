"""A study's audit: every claim measured, judged, varied, and traced back; the content of ``claims.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from cl_vs_mim.audit.agreement import agree
from cl_vs_mim.audit.bootstrap import Resampling, holm
from cl_vs_mim.audit.claims import Claim, ClaimFile, Curve
from cl_vs_mim.audit.contrasts import Contrast, Enters
from cl_vs_mim.audit.estimate import Effect, least, predicted
from cl_vs_mim.audit.measure import Measured, measure
from cl_vs_mim.audit.multiverse import universes
from cl_vs_mim.audit.provenance import code_of_metric, snakemake_command, table_name, table_records
from cl_vs_mim.audit.registration import Registration, Run, at_hand, same
from cl_vs_mim.audit.result import (
    VERDICTS,
    AgreementRecord,
    ClaimRecord,
    ContrastRecord,
    EffectRecord,
    OwnRecord,
    PredictionRecord,
    RegistrationRecord,
    Report,
    Universe,
)
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.audit.verdict import NOT_TESTED, Verdict, judge
from cl_vs_mim.config import Study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import row_head

_DEVICE = torch.device("cpu")  # nothing after a table needs another


class Audit:
    """The claims of a file before the tables of a study.

    Args:
        file: claims, rules, curves, and choices of the multiverse.
        tables: the study's tables.
        reference: the table of published and digitised values.
        known: versions of claims and rules that were fixed before a study was run.
    """

    def __init__(self, file: ClaimFile, tables: Tables, reference: Path, known: Sequence[Registration] = ()) -> None:
        self.known = known
        self.file = file
        self.tables = tables
        self.reference = reference
        options = tables.study.figures.bootstrap
        self.level = options.level
        self.resampling = Resampling(options.resamples, options.seed)
        self._paths: set[Path] = set()

    # --------------------------------------------------------------------------------------------
    # One claim
    # --------------------------------------------------------------------------------------------

    def judge_claim(self, claim: Claim) -> tuple[Verdict, list[Measured]]:
        """Its verdict and its contrasts; no contrasts where it is not tested here."""
        if claim.not_tested:
            return Verdict(NOT_TESTED, claim.not_tested), []
        groups = {one.group for one in claim.contrasts} if claim.any_group else set()
        measured: list[Measured] = []
        needs: list[Measured] = []
        faults: list[str] = []
        for group in sorted(groups) or [""]:
            try:
                needed, found = self._group(claim, group)
                needs, measured = [*needs, *needed], [*measured, *found]
            except UserError as error:
                faults.append(str(error))
        if not measured:
            return Verdict(NOT_TESTED, faults[0]), []
        return judge(measured, self.file.rule, self.level, len(groups), needs), measured

    def _group(self, claim: Claim, group: str) -> tuple[list[Measured], list[Measured]]:
        """What one group, or the whole claim, needs, and its contrasts.

        Raises:
            UserError: a table or a model is missing, or what it needs does not hold.
        """
        needs = self._measure((one for one in claim.needs if one.group in ("", group)), "none")
        for need in needs:
            # what is asked of each encoder as it is needs no interval: it speaks of these encoders, seed by seed
            low = need.interval(self.level).low if need.least_seen is None else need.least_seen
            if low is None or low <= need.margin:
                raise UserError(f"it does not hold that {need.name}")
        return needs, [self._one(one, claim.enters(one)) for one in claim.contrasts if one.group == group]

    def _one(self, contrast: Contrast, enters: Enters) -> Measured:
        return measure(self.tables, contrast, enters, smallest_share=self.file.rule.smallest_share)

    def _measure(self, contrasts: Iterable[Contrast], enters: Enters) -> list[Measured]:
        return [self._one(contrast, enters) for contrast in contrasts]

    def _measure_if_there(self, contrasts: Iterable[Contrast]) -> list[Measured]:
        """Those whose tables exist: what is only reported with a claim does not decide whether it is tested."""
        found = []
        for contrast in contrasts:
            try:
                found.append(self._one(contrast, "none"))
            except UserError:
                continue
        return found

    def _claim(self, claim: Claim) -> ClaimRecord:
        verdict, measured = self.judge_claim(claim)
        names = {one.name for one in measured}
        there = claim.model_copy(update={"contrasts": [one for one in claim.contrasts if one.name in names]})
        groups = len({one.group for one in claim.contrasts}) if claim.any_group else 0
        beside, needs = self._measure_if_there(claim.beside), self._measure_if_there(claim.needs)
        held = [one for one in needs if one.group in ("", *(each.group for each in measured))]
        varied = list(universes(there, self.tables, self.file, self.level, groups, held, measured)) if measured else []
        elsewhere = [one for universe in varied for one in universe.measured]
        self._paths.update(path for one in (*measured, *beside, *needs, *elsewhere) for path in one.paths)
        return ClaimRecord(
            **claim.model_dump(include={"statement", "figure", "strength", "unit", "note"}),
            verdict=verdict.verdict,
            reason=verdict.reason,
            decided_by=verdict.decided_by,
            contrasts=self._contrasts(claim, measured, claim.contrasts),
            beside=self._contrasts(claim, beside, claim.beside),
            needs=self._contrasts(claim, needs, claim.needs),
            p_value=verdict.p_value,
            p_holm=None,
            seeds=min((one.seeds for one in (*measured, *held)), default=0) if measured else 0,
            control_seeds=min(
                (one.control_seeds for one in (*measured, *held) if one.control_seeds is not None), default=None
            ),
            images=min((one.images for one in measured), default=0),
            multiverse=[
                Universe(
                    choices=one.choices,
                    verdict=one.verdict.verdict,
                    effects=[_effect(each.interval(self.level)) for each in one.measured],
                )
                for one in varied
            ],
            agreeing=sum(one.verdict.kind == verdict.kind for one in varied),
            command=snakemake_command(self.tables.study.study, f"figures/{claim.figure}.pdf"),
        )

    def _contrasts(self, claim: Claim, measured: Sequence[Measured], asked: Sequence[Contrast]) -> list[ContrastRecord]:
        stated = {one.name: one for one in asked}
        return [self._contrast(claim, one, stated[one.name]) for one in measured]

    def _contrast(self, claim: Claim, one: Measured, asked: Contrast) -> ContrastRecord:
        beyond, own = one.beyond(self.level), one.untrained.own
        control = asked.control or claim.control
        return ContrastRecord(
            name=one.name,
            group=one.group,
            margin=one.margin,
            smallest=one.smallest,
            why_smallest=asked.smallest.reason if asked.smallest else "",
            enters=one.enters,
            why_enters=control.reason if control and one.enters != "none" else "",
            published=asked.published,
            prediction=self._prediction(one, asked.published),
            code=code_of_metric(self.tables.study, asked),
            depth=one.depths[one.weakest],
            effect=_effect(one.interval(self.level)),
            beyond_control=None if beyond is None else _effect(beyond),
            own=[]
            if own is None
            else [
                OwnRecord(encoder=name, value=value, low=value - half, high=value + half)
                for name, value, half in zip(one.encoders, own.value, own.half_width(self.level), strict=True)
            ],
            untrained=None if one.before is None else _effect(least(one.before, self.level)),
            p_value=float(one.evidence.support),
            seeds=one.seeds,
            images=one.images,
            tables=[table_name(self.tables, path) for path in one.paths],
        )

    def _prediction(self, one: Measured, published: float | None) -> PredictionRecord | None:
        ends = predicted(one.effect, self.level, one.weakest)
        if published is None or ends is None:
            return None
        return PredictionRecord(low=ends[0], high=ends[1], holds=ends[0] <= published <= ends[1])

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

    def _registration(self) -> RegistrationRecord:
        now = at_hand(self.file)
        entry = next((one for one in self.known if same(one, now)), None)
        return RegistrationRecord(
            version=now.version,
            date=now.date.isoformat(),
            claims=now.claims,
            rules=now.rules,
            registered=entry is not None,
            before_the_study=entry is not None
            and Run(study=self.tables.study.study, level=self.level, noted="before") in entry.studies,
        )

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
            scale=_scale(study),
            level=self.level,
            registration=self._registration(),
            resamples=self.resampling.resamples,
            smallest_share=self.file.rule.smallest_share,
            least_seeds=self.file.rule.least_seeds,
            least_control_seeds=self.file.rule.least_control_seeds,
            head=row_head(study=study.study, config_hash=config_hash, data_hash=data_hash, device=_DEVICE),
            verdicts={verdict: counted[verdict] for verdict in VERDICTS},
            claims=claims,
            agreement=[self._agreement(curve) for curve in self.file.curves],
            tables=table_records(self.tables, self._paths),
        )


# ------------------------------------------------------------------------------------------------
# Records
# ------------------------------------------------------------------------------------------------


def _scale(study: Study) -> int:
    """Weights of the blocks of the pair's first encoder: 12 width^2 a block."""
    architecture = study.architectures[study.models[study.figures.pair[0]].architecture]
    return 12 * architecture.depth * architecture.width**2


def _effect(effect: Effect) -> EffectRecord:
    return EffectRecord(
        value=effect.value,
        low=effect.low,
        high=effect.high,
        standard_error=effect.standard_error,
        effect_size=effect.effect_size,
    )
