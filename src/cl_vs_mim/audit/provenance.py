"""From a number back to its origin: the table, its hash, the head of its rows, and the command that rebuilds it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cl_vs_mim.audit.result import TableRecord
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.tables import HEAD
from cl_vs_mim.figures.tables import labels

_ALSO = ("model", "label", "method", "architecture", "stage")  # of the head, where a table has them


def snakemake_command(study: str, target: str) -> str:
    """What rebuilds a file of a study, with the environment active."""
    chosen = "" if study == "demo" else f" --config study={study} --"
    return f"snakemake --cores all{chosen} {target}"


def table_records(tables: Tables, paths: Iterable[Path]) -> dict[str, TableRecord]:
    """Each table once, by its path as the workflow knows it."""
    study, known = tables.study.study, labels(tables.study)
    records = {}
    for path in sorted(set(paths)):
        frame = tables.frame(path)
        name = table_name(tables, path)
        target = f"results/{study}/tables/{name}{path.suffix}"
        head = {name: _only(frame[name]) for name in (*HEAD, *_ALSO) if name in frame}
        if "label" in head:  # the study's word of today: no table is made again for it
            head["label"] = known.get(head["model"], head["label"])
        records[name] = TableRecord(
            path=target,
            sha256=sha256_file(path),
            command=snakemake_command(study, target),
            head=head,
            seed=int(frame["seed"].iloc[0]) if "seed" in frame else None,
        )
    return records


def table_name(tables: Tables, path: Path) -> str:
    """Kind and encoder, such as ``attention/moco_v3_seed0``."""
    return path.relative_to(tables.folder).with_suffix("").as_posix()


def _only(column: pd.Series) -> str:
    return ", ".join(map(str, column.unique()))
