"""What the claims may name: tables, their columns and the words in them, metrics, models. A typo is no missing table.

Without this a claim on a table ``attenton`` would be *not tested here*, like one whose tables the study does not make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cl_vs_mim.audit.contrasts import Alternative, Contrast, Term, Where
from cl_vs_mim.config.tasks import TASKS
from cl_vs_mim.core.errors import nearest
from cl_vs_mim.metrics.layouts import MEASURED
from cl_vs_mim.metrics.register import named_metrics

if TYPE_CHECKING:
    from cl_vs_mim.audit.claims import ClaimFile

# Columns of the tables that are no layout of a pass, and the words in them; None: any value.
_Columns = dict[str, tuple[str, ...] | None]
_Tables = dict[str, _Columns | None]
_LABELS, _POOLING, _SPLIT = ("class", "category"), ("mean", "cls"), ("train", "val", "heldout")
_SCORED: _Columns = {"metric": ("top1",), "split": _SPLIT, "labels": _LABELS, "correct": None, "depth": None}
_TABLES: dict[str, _Columns] = {
    "augmented_probe": _SCORED,
    "finetuning": _SCORED,
    "linear_probe": _SCORED | {"pooling": _POOLING},
    "knn_probe": _SCORED | {"pooling": _POOLING},
    "attentive_probe": _SCORED | {"pooling": ("attentive",)},
    "cue_conflict": _SCORED | {"pooling": _POOLING, "material": None, "decision": None},
    "noise": _SCORED | {"pooling": _POOLING, "frequency": None, "width": None},
    "detection": {"task": ("box", "mask"), "metric": None, "category": None},
    "segmentation": {"task": ("segmentation",), "metric": None, "category": None},
    "decoder_fourier": {"depth": None, "frequency": None},
    "embedding_purity": {
        "metric": ("image_purity", "class_purity", "centroid_separation"),
        "perplexity": None,
        "group": None,
        "depth": None,
    },
}
_UNTRAINED = re.compile(r"(cl|mim)_untrained|untrained_[a-z0-9_]+")
_PAIR = re.compile(r"(cl|mim)(:smallest|:middle|:largest)?")


def unknown_names(file: ClaimFile) -> Iterator[str]:
    """A message for each name that means nothing, each beginning with the dotted key where it stands."""
    tables = _tables()
    for number, claim in file.claims.items():
        for part in ("contrasts", "needs", "beside"):
            for place, contrast in enumerate(getattr(claim, part)):
                yield from _of_contrast(contrast, f"claims.{number}.{part}.{place}", file.models, tables)
    for place, curve in enumerate(file.curves):
        where = f"curves.{place}"
        yield from _of_table(curve.table, curve.where, where, tables)
        yield from _of_model(curve.model, where, file.models)


def _of_contrast(contrast: Contrast, where: str, models: list[str], tables: _Tables) -> Iterator[str]:
    yield from _of_table(contrast.table, contrast.where | contrast.without, where, tables)
    others: Iterable[tuple[str, Term | Alternative]] = [
        *((f"{where}.more.{place}", term) for place, term in enumerate(contrast.more)),
        *((f"{where}.less.{place}", term) for place, term in enumerate(contrast.less)),
        *((f"{where}.alternatives.{place}", other) for place, other in enumerate(contrast.alternatives)),
    ]
    for there, other in others:
        if other.table or other.where:
            yield from _of_table(other.table or contrast.table, other.where, there, tables)
        if isinstance(other, Term):
            yield from _of_model(other.model, there, models)


def _of_table(table: str, columns: Where, where: str, tables: _Tables) -> Iterator[str]:
    if table not in tables:
        yield f"{where}.table: no study makes a table {table!r}{nearest(table, tables)}"
        return
    if (valid := tables[table]) is None:
        return
    for column, value in columns.items():
        if column not in valid:
            yield f"{where}.where: a table {table} has no column {column!r}{nearest(column, valid)}"
            continue
        words = valid[column]
        for one in value if isinstance(value, list) else [value]:
            if words is not None and str(one) not in words:
                yield f"{where}.where: no {column} of a table {table} is {one!r}{nearest(str(one), words)}"


def _tables() -> _Tables:
    """Every table that a study may have, and what its rows can be chosen by; None: a table of a user's own task."""
    found: _Tables = {table: None for name in TASKS.names() for table in TASKS[name].tables}
    metrics = named_metrics()
    for table, layout in MEASURED.items():
        columns: _Columns = {"image": None, "depth": None}
        if layout.axis:
            columns[layout.axis] = None
        if layout.named:
            columns["metric"] = tuple(name for name, its in metrics.items() if its == table)
        found[table] = columns
    return found | _TABLES


def _of_model(name: str, where: str, models: list[str]) -> Iterator[str]:
    stem = re.sub(r":(smallest|middle|largest)$", "", name)
    if not (_PAIR.fullmatch(name) or _UNTRAINED.fullmatch(name) or stem in models):
        valid = ["cl", "mim", "cl_untrained", "mim_untrained", *models]
        yield f"{where}.model: {name!r} is no model that the claims are about{nearest(name, valid)}"
