"""Which tables the audit reads of a study: those of the contrasts that it measures, as far as the study makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cl_vs_mim.audit.claims import ClaimFile
from cl_vs_mim.audit.contrasts import Contrast, read_otherwise
from cl_vs_mim.audit.series import control_of, model_of, seeds_of
from cl_vs_mim.config import Study
from cl_vs_mim.config.encoders import run_name
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures.sources import made
from cl_vs_mim.metrics.layouts import MEASURED


def tables_of_claims(file: ClaimFile, study: Study) -> list[str]:
    """Tables behind all claims and curves, such as ``attention/moco_v3_seed0``; each once.

    Models that the study does not have, and tasks that it does not do, are left out: their claims are not tested.
    """
    found: list[str] = []
    for claim in file.claims.values():
        for contrast in claim.contrasts:
            untrained = claim.enters(contrast) != "none"
            found += tables_of_contrasts([contrast], study, controlled=untrained)
        found += tables_of_contrasts([*claim.needs, *claim.beside], study)
    for curve in file.curves:
        found += _encoder_tables(study, curve.model, curve.table, controlled=False, grids=False)
    return list(dict.fromkeys(found))


def tables_of_contrasts(contrasts: Iterable[Contrast], study: Study, *, controlled: bool = False) -> list[str]:
    """Tables behind contrasts, their other readings and, if ``controlled``, their untrained encoders; each once.

    Contrasts that are controlled or have other readings are those of claims, which are measured at other grids too.
    """
    found: list[str] = []
    for stated in contrasts:
        readings = [None, *range(len(stated.alternatives))]
        for contrast in (read_otherwise(stated, reading) for reading in readings):
            for term in (*contrast.more, *contrast.less):
                kind = term.table or contrast.table
                found += _encoder_tables(study, term.model, kind, controlled=controlled, grids=controlled)
    return list(dict.fromkeys(found))


def _encoder_tables(study: Study, name: str, kind: str, *, controlled: bool, grids: bool) -> Iterator[str]:
    """All seeds of what a term means by a model."""
    try:
        model = model_of(study, name)
    except UserError:  # the study has no such model, or one size of it
        return
    kinds = [kind, *(f"grid{grid}/{kind}" for grid in study.analysis.grids if grids and kind in MEASURED)]
    for one in (model, control_of(study, model)) if controlled else (model,):
        for seed in seeds_of(study, one):
            stem = run_name(one, seed)
            yield from (f"{each}/{stem}" for each in kinds if stem in made(study, each))
