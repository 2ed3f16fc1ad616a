"""From a number back to its origin: the table, its hash, the head of its rows, and the command that rebuilds it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cl_vs_mim.audit.contrasts import Contrast
from cl_vs_mim.audit.result import TableRecord
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.config import Study
from cl_vs_mim.config.tasks import study_tasks
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.tables import HEAD
from cl_vs_mim.figures.tables import labels
from cl_vs_mim.metrics.register import registered

_ALONE = {  # tables that one module writes, with a statistic of its own
    "embedding_purity": "cl_vs_mim.analysis.embedding",
    "decoder_fourier": "cl_vs_mim.metrics.fourier",
}
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


def code_of_metric(study: Study, contrast: Contrast) -> str:
    """The module that computes what a contrast compares, as a path in the repository; empty for a user's own table."""
    metrics = registered()
    names = [name for name in (contrast.where.get("metric"), contrast.table) if isinstance(name, str)]
    module = next((metrics[name].function.__module__ for name in names if name in metrics), "")
    of_table = [one.function.__module__ for one in metrics.values() if one.table == contrast.table]
    module = module or (of_table[0] if len(set(of_table)) == 1 else "") or _ALONE.get(contrast.table, "")
    writers = [task.evaluate for task in study_tasks(study).values() if contrast.table in task.tables]
    module = module or next(iter(writers), "")
    return f"src/{module.replace('.', '/')}.py" if module.startswith("cl_vs_mim.") else ""


def _only(column: pd.Series) -> str:
    return ", ".join(map(str, column.unique()))
