"""Tables 1 and 2: what encoders are good for, with intervals, and the published value beside it.

Each is written three times: ``.csv`` (a row per encoder and task, everything), ``.md`` and ``.tex`` (a row per encoder,
to be read).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.config.tasks import Score, scores
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures.figure import BOOTSTRAP, Frames, restricted
from cl_vs_mim.figures.looks import hybrid_weights, method_key
from cl_vs_mim.figures.reference import with_lambda
from cl_vs_mim.figures.scores import columns_of, encoder_scores
from cl_vs_mim.figures.sources import Reference, Table, runs_of

SETTINGS = (BOOTSTRAP,)  # sections of the study that a table reads
_HYBRID = "hybrid"


# Table -> whose it is: a key of sources.GROUPS.
TABLES = {"transfer": "methods", _HYBRID: "hybrids"}


def tables_of(study: Study) -> list[str]:
    """The tables that a study has: those of encoders that it fine-tunes."""
    return [name for name in TABLES if "finetuning" in reads(name, study)]


def reads(name: str, study: Study) -> dict[str, Table | Reference]:
    """What a table is made from, by kind: tasks that the study does with at least one trained encoder of the table.

    Raises:
        UserError: there is no such table.
    """
    if name not in TABLES:
        raise UserError(f"there is no table {name!r}; there are: {', '.join(TABLES)}")
    found: dict[str, Table | Reference] = {"reference": Reference()}
    columns: dict[str, tuple[str, ...]] = {}
    for score in scores(study).values():
        columns[score.table] = tuple(dict.fromkeys((*columns.get(score.table, ()), *columns_of(score))))
        table = Table(score.table, TABLES[name], columns[score.table])
        if any(model in study.models for model, _ in runs_of(study, table).values()):
            found[score.table] = table
    return found


# ------------------------------------------------------------------------------------------------
# Rows
# ------------------------------------------------------------------------------------------------


def collect(frames: Frames, study: Study) -> pd.DataFrame:
    """A row per encoder and task: ``model label architecture lambda task value low high … published gap``.

    Args:
        frames: rows by kind of table, and ``reference``.
        study: the study that the tables belong to.

    Raises:
        UserError: results that do not compare: of other labels, protocols or images.
    """
    columns = scores(study)
    study = restricted(study, SETTINGS)
    bootstrap = study.figures.bootstrap
    parts = []
    for name, score in columns.items():
        if (frame := frames.get(score.table)) is not None:
            parts.append(encoder_scores(score, frame, bootstrap).assign(task=name))
    rows = pd.concat(parts, ignore_index=True)
    rows["lambda"] = rows["model"].map(hybrid_weights(study)).astype("float64")
    return with_published(rows, frames["reference"], columns)


def with_published(rows: pd.DataFrame, reference: pd.DataFrame, columns: Mapping[str, Score]) -> pd.DataFrame:
    """``rows`` with the columns ``published`` (ViT-B, ImageNet-1K or COCO) and ``gap``, ours minus published."""
    methods = with_lambda(reference[reference["figure"] == "fig1"])
    methods = methods.assign(method=methods["method"].map(method_key))
    hybrids = with_lambda(reference[reference["figure"] == "fig12"])

    def value(row: Mapping[str, Any]) -> float:
        if (place := columns[row["task"]].published) is None:
            return float("nan")
        panel, column = place
        if row["method"] == _HYBRID:
            found = hybrids[hybrids["lambda"].sub(row["lambda"]).abs() < 1e-6] if panel == "a (left)" else hybrids[:0]
        else:
            found = methods[(methods["panel"] == panel) & (methods["method"] == row["method"])]
        return float(found[column].iloc[0]) if len(found) else float("nan")

    rows = rows.assign(published=[value(row) for row in rows.to_dict("records")])
    return rows.assign(gap=rows["value"] - rows["published"])


# ------------------------------------------------------------------------------------------------
# Pages
# ------------------------------------------------------------------------------------------------


def cell(row: pd.Series) -> str:
    """``24.7 [21.6, 27.8] (83.2, -58.5)``: value, interval, published value and gap; what there is of it."""
    text = f"{row['value']:.1f}"
    if pd.notna(row["low"]):
        text += f" [{row['low']:.1f}, {row['high']:.1f}]"
    if pd.notna(row["published"]):
        text += f" ({row['published']:.1f}, {row['gap']:+.1f})"
    return text


def grid(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """A row per encoder in the study's order, a column per score of its tasks, as text."""
    order = list(dict.fromkeys(rows["model"]))
    texts = rows.assign(text=[cell(row) for _, row in rows.iterrows()])
    table = texts.set_index(["model", "task"])["text"].unstack("task").reindex(order)  # noqa: PD010
    headings = {name: score.title for name, score in scores(study).items()}
    table = table[[task for task in headings if task in table]].rename(columns=headings).fillna("–")
    names = rows.drop_duplicates("model").set_index("model").loc[order]
    table.insert(0, "encoder", names["label"])
    table.insert(1, "size", names["architecture"])
    return table.reset_index(drop=True)


def caption(study: Study, rows: pd.DataFrame) -> str:
    """The table's caption: study, intervals and what the brackets hold."""
    kinds = {"seeds": "over seeds (Student's t)", "images": "over images, one seed: not over trainings", "none": "none"}
    tasks = "; ".join(
        f"{task}: {kinds[kind]}"
        for task, kind in rows.drop_duplicates("task")[["task", "interval"]].itertuples(index=False)
    )
    reduced = "Reduced study: direction only at best. " if study.reduced else ""
    level = f"{study.figures.bootstrap.level:.0%}"
    return (
        f"{reduced}Study {study.study} ({study.title}). Value, {level} interval in brackets ({tasks}), published value "
        "for ViT-B on ImageNet-1K or COCO and the gap to it in parentheses: at another scale no target, but a reminder "
        "of the order."
    )


def markdown(table: pd.DataFrame, text: str) -> str:
    """A pipe table under its caption."""
    plain = table.map(lambda value: str(value).replace("|", r"\|"))
    lines = [list(plain.columns), ["---"] * len(plain.columns), *plain.to_numpy().tolist()]
    return f"{text}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash ",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde ",
        "^": r"\textasciicircum ",
    }
)  # pandas escapes cells and headings, but no caption
_SIGNS = {"–": "--", "λ": r"$\lambda$", "−": "$-$"}  # that plain LaTeX does not know


def latex(table: pd.DataFrame, text: str) -> str:
    """A booktabs table with its caption."""
    columns = "ll" + "r" * (len(table.columns) - 2)
    caption = text.translate(_LATEX)
    written = table.to_latex(index=False, escape=True, caption=caption, column_format=columns)
    for sign, plain in _SIGNS.items():
        written = written.replace(sign, plain)
    return written
