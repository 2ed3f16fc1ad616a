"""From a contrast of ``claims.yaml`` and the tables of a study to what is known of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cl_vs_mim.audit.contrasts import Contrast, Enters, Heads, Term, read_otherwise
from cl_vs_mim.audit.estimate import Effect, Estimate, Part, estimate, least
from cl_vs_mim.audit.evidence import Evidence, Untrained, of_contrast
from cl_vs_mim.audit.identities import identities
from cl_vs_mim.audit.series import Series, Tables, control_of, model_of, source_of
from cl_vs_mim.audit.terms import CHOOSING, expanded, judging, reduced
from cl_vs_mim.core.errors import UserError


@dataclass(frozen=True)
class Choices:
    """What may reasonably be chosen otherwise; the defaults are those of the verdict."""

    heads: Heads = "mean"
    grid: int | None = None  # patches a side of the images; None: the encoder's own
    every: int = 1  # 1: all images, 2: every other one
    shift: float = 0.0  # of the inner ends of depth windows, in relative depth
    alternative: int | None = None  # of the contrast's own
    enters: Enters | None = None  # how the untrained encoders do; None: as the claim says


@dataclass(frozen=True)
class Measured:
    """One contrast of a claim."""

    name: str
    margin: float
    effect: Estimate  # (K,), at each depth that is asked about
    untrained: Untrained
    enters: Enters
    seeds: int  # the fewest of any trained encoder in it
    control_seeds: int | None  # the fewest of any untrained one, a term or a control; None: none enters
    images: int  # 0: the tables have no values by image
    smallest: float = 0.0  # effect beyond the margin that matters
    group: str = ""
    depths: tuple[str, ...] = ("",)  # K names
    encoders: tuple[str, ...] = ()  # those of untrained.own
    effect_size: float | None = None  # in standard deviations between images
    paths: tuple[Path, ...] = ()  # the tables behind it
    before: Estimate | None = None  # the contrast of the untrained encoders, where trained ones must differ from theirs
    least_seen: float | None = None  # of every: alone, the least value of any seed at any depth
    computed: str = ""  # digest of the numbers that entered: measurements that share it are one and the same

    @property
    def evidence(self) -> Evidence:
        """How sure the three statements about it are."""
        return of_contrast(self.effect, self.margin, self.smallest, self.untrained)

    @property
    def has_interval(self) -> bool:
        """Whether anything varies that the interval could be of."""
        parts = [self.effect, self.untrained.beyond, self.untrained.own]
        return all((one.error > 0).all() for one in parts if one is not None)

    @property
    def weakest(self) -> int:
        """Which of the K depths lies least above the margin, in its standard errors."""
        return int(self._clearances().argmin())

    @property
    def clearance(self) -> float:
        """How far that depth lies above the margin, in its standard errors."""
        return float(self._clearances().min())

    def _clearances(self) -> np.ndarray:
        return (self.effect.value - self.margin) / np.where(self.effect.error > 0, self.effect.error, 1.0)

    def interval(self, level: float) -> Effect:
        """The effect, or the least one of several depths, with its interval."""
        return least(self.effect, level, self.effect_size)

    def beyond(self, level: float) -> Effect | None:
        """What of it exceeds the untrained encoders."""
        return None if self.untrained.beyond is None else least(self.untrained.beyond, level)


def measure(
    tables: Tables,
    contrast: Contrast,
    enters: Enters,
    *,
    smallest_share: float = 0.0,
    choices: Choices | None = None,
) -> Measured:
    """Effect of the trained encoders, and how the untrained ones lie to it.

    Args:
        tables: a study's tables.
        contrast: what is compared.
        enters: how the untrained encoders do.
        smallest_share: of the published value: the smallest effect that matters, where the contrast says no other.
        choices: other than those of the verdict.

    Raises:
        UserError: tables or models are missing; the message says which.
    """
    choices = choices or Choices()
    enters = choices.enters or enters
    contrast = read_otherwise(contrast, choices.alternative)
    study = tables.study
    names = [model_of(study, term.model) for _, term in contrast.signed()]
    sources = [source_of(contrast, term, choices.heads, choices.grid, choices.every) for _, term in contrast.signed()]
    series = [tables.series(*pair) for pair in zip(names, sources, strict=True)]
    controls: list[Series] = []
    if enters != "none":
        controls = [tables.series(control_of(study, name), source) for name, source in zip(names, sources, strict=True)]
    _check_images([*series, *controls])
    if contrast.decision is not None and contrast.decision.among:
        _check_decided([*series, *controls], contrast)
    arrays, depths = expanded(contrast, series, choices.shift)
    parts = _parts(contrast, series, arrays)
    beyond = own = before = None
    encoders: tuple[str, ...] = ()
    entered = list(parts)
    if enters == "exceed":
        opposite = _parts(contrast, controls, expanded(contrast, controls, choices.shift)[0], sign=-1)
        entered += opposite
        beyond = estimate(entered)
    elif enters in ("beat", "differ"):
        encoders, own, compared = _own(contrast, series, controls, choices.shift)
        entered += compared
    if enters == "differ":
        before = estimate(_parts(contrast, controls, expanded(contrast, controls, choices.shift)[0]))
    untrained = [*controls, *(one for one in series if one.model in study.controls())]
    trained = [one for one in series if one.model not in study.controls()]
    return Measured(
        contrast.name,
        contrast.margin,
        estimate(parts),
        Untrained(beyond, own, either_way=enters == "differ"),
        enters,
        min(len(one.values) for one in trained or series),
        min((len(one.values) for one in untrained), default=None),
        min(len(one.images) for one in series),
        contrast.smallest_effect(smallest_share),
        contrast.group,
        tuple(depths),
        encoders,
        _between_images(parts),
        tuple(dict.fromkeys(path for one in (*series, *controls) for path in one.paths)),
        before,
        _least_seen(parts) if contrast.every == "alone" else None,
        _digest(enters, entered),
    )


# ------------------------------------------------------------------------------------------------
# Parts
# ------------------------------------------------------------------------------------------------


def _parts(contrast: Contrast, series: Sequence[Series], arrays: Sequence[np.ndarray], sign: int = 1) -> list[Part]:
    """One part a term. Errors that a table states are those of the mean of the window."""
    found = []
    for (its, term), one, values in zip(contrast.signed(), series, arrays, strict=True):
        judges = judging(contrast, one.images)
        images = tuple(name for name, judging_it in zip(one.images, judges, strict=False) if judging_it)
        part = _part(sign * its, replace(one, images=images), term, values[:, judges])
        found.append(replace(part, chosen=term.over in CHOOSING))
    return found


def _part(sign: int, series: Series, term: Term, values: np.ndarray) -> Part:
    errors = None
    if series.errors is not None:
        stated = Series(series.model, series.depths, series.errors[:, None] ** 2, (), None, series.paths)
        mean = reduced(stated, term, plain=True)[:, 0]  # variance of one depth
        errors = np.sqrt(mean) * np.ones(values.shape[-1])
    return Part(sign, series.model, series.images, values, errors, identities(series.images) if series.images else None)


def _own(
    contrast: Contrast, series: Sequence[Series], controls: Sequence[Series], shift: float
) -> tuple[tuple[str, ...], Estimate | None, list[Part]]:
    """Every encoder's terms minus those of its own untrained one: their names, the differences (E,), and their parts.

    Of a window whose depths are asked one by one, or one of which is chosen, the mean is compared.
    """
    names, found, compared = [], [], []
    for (_, term), trained, untrained in zip(contrast.signed(), series, controls, strict=True):
        if trained.model == untrained.model:
            continue  # an untrained encoder is its own control
        pair = [(1, trained), (-1, untrained)]
        parts = [_part(sign, one, term, reduced(one, term, shift, plain=True)) for sign, one in pair]
        names.append(trained.model)
        found.append(estimate(parts))
        compared += parts
    if not found:
        return (), None, []
    stacked = (np.concatenate([getattr(one, key) for one in found]) for key in ("value", "error", "df", "single"))
    return tuple(names), Estimate(*stacked), compared


def _digest(enters: Enters, parts: Sequence[Part]) -> str:
    """The same for the same numbers, in single precision: a mean and a median of two may differ by an ulp."""
    found = hashlib.sha256(enters.encode())
    for part in parts:
        found.update(f"{part.sign} {part.encoder} {part.values.shape} {part.chosen}".encode())
        found.update(part.values.astype(np.float32).tobytes())
    return found.hexdigest()


def _between_images(parts: Sequence[Part]) -> float | None:
    """The effect in standard deviations of what the images show one by one; None where they cannot be paired."""
    if len({one.images for one in parts}) > 1 or not parts[0].images or parts[0].values.shape[-1] > 1:
        return None
    if not all(np.isfinite(one.values).all() for one in parts):
        return None
    each = sum((one.sign * one.values.mean(axis=0) for one in parts), start=np.zeros(()))
    spread = float(np.std(each, ddof=1))
    return float(each.mean()) / spread if spread > 0 else None


def _least_seen(parts: Sequence[Part]) -> float:
    """The least of the means over images, of any seed at any depth, of the one part that there is."""
    (part,) = parts
    return float((part.sign * np.nanmean(part.values, axis=1)).min())


def _check_decided(series: Sequence[Series], contrast: Contrast) -> None:
    """Of a share of decisions, every encoder must have made enough of them.

    Raises:
        UserError: one has not; the message says how many it made.
    """
    assert contrast.decision is not None
    for one in series:
        decided = np.isfinite(one.values).any(axis=2)  # (S, M)
        count = min(len(np.unique(identities(one.images)[each])) for each in decided)
        if count < contrast.decision.least:
            raise UserError(
                f"{one.model} decides images of {count} objects in a way that counts, fewer than the "
                f"{contrast.decision.least} that a share of decisions is asked of"
            )


def _check_images(series: Sequence[Series]) -> None:
    """Tables of one kind must be of the same images; otherwise they would silently be compared unpaired."""
    first: dict[str, Series] = {}
    for one in series:
        kind = one.paths[0].parent.name
        if first.setdefault(kind, one).images != one.images:
            raise UserError(
                f"tables {kind} of {first[kind].model} and {one.model} are of different images; rebuild them"
            )
