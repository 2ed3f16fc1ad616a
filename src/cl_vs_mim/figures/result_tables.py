"""Tables 1 and 2: what encoders are good for, with intervals, and the published value beside it.

    python -m cl_vs_mim.figures.result_tables --config config/demo.yaml --finetuning-tables … --probe-tables … \\
        --reference results/reference/reference_values.csv --output tables/transfer.csv

Table 1 is of the methods, Table 2 of the hybrids: the same command on other tables. Writes ``.csv`` (a row per encoder
and task, everything), ``.md`` and ``.tex`` (a row per encoder, to be read).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.core.tables import read_table, write_table
from cl_vs_mim.figures.scores import classification_scores, dense_scores

TASKS = {  # column of the table -> how it is written, unit
    "linear probe": "linear probe (%)",
    "fine-tuning": "fine-tuning (%)",
    "box AP": "box AP",
    "mask AP": "mask AP",
    "mIoU": "mIoU (%)",
}
_PROBE_AND_TUNING = "a (left)"  # panel of the paper's Figure 1
_PUBLISHED = {"linear probe": (_PROBE_AND_TUNING, "x"), "fine-tuning": (_PROBE_AND_TUNING, "y")}
_PUBLISHED |= {"box AP": ("c (right)", "x")}
_PAPER_METHODS = {"moco_v3": "MoCo v3", "dino": "DINO", "mae": "MAE", "beit": "BEiT", "simmim": "SimMIM"}
_PAPER_METHODS |= {"supervised": "Supervised"}

# ------------------------------------------------------------------------------------------------
# Rows
# ------------------------------------------------------------------------------------------------


def collect(
    study: Study,
    finetuning: Sequence[Path],
    probe: Sequence[Path],
    detection: Sequence[Path] = (),
    segmentation: Sequence[Path] = (),
) -> pd.DataFrame:
    """A row per encoder and task: ``model label architecture task value low high interval seeds …``."""
    bootstrap = study.figures.bootstrap
    parts = {
        "linear probe": classification_scores(probe, study, bootstrap) if probe else None,
        "fine-tuning": classification_scores(finetuning, study, bootstrap) if finetuning else None,
        "box AP": dense_scores(detection, study, "box", "AP", bootstrap) if detection else None,
        "mask AP": dense_scores(detection, study, "mask", "AP", bootstrap) if detection else None,
        "mIoU": dense_scores(segmentation, study, "segmentation", "mIoU", bootstrap) if segmentation else None,
    }
    found = [rows.assign(task=task) for task, rows in parts.items() if rows is not None]
    return pd.concat(found, ignore_index=True)


def with_published(rows: pd.DataFrame, reference: pd.DataFrame, study: Study) -> pd.DataFrame:
    """``rows`` with the columns ``published`` (ViT-B, ImageNet-1K or COCO) and ``gap``, ours minus published."""

    def value(row) -> float:
        panel, column = _PUBLISHED.get(row.task, (None, None))
        figure, name = "fig1", _PAPER_METHODS.get(row.method)
        if row.method == "hybrid":
            figure, panel = "fig12", "left" if panel == _PROBE_AND_TUNING else None
            name = f"CL+MIM hybrid lambda={study.models[row.model].objective.weight:.1f}"
        found = reference[
            (reference["figure"] == figure) & (reference["panel"] == panel) & (reference["method"] == name)
        ]
        return float(found[column].iloc[0]) if len(found) else float("nan")

    rows = rows.assign(published=[value(row) for row in rows.itertuples()])
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


def grid(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per encoder in the study's order, a column per task, as text."""
    order = list(dict.fromkeys(rows["model"]))
    texts = rows.assign(text=[cell(row) for _, row in rows.iterrows()])
    table = texts.set_index(["model", "task"])["text"].unstack("task").reindex(order)  # noqa: PD010
    table = table[[task for task in TASKS if task in table]].rename(columns=TASKS).fillna("–")
    names = rows.drop_duplicates("model").set_index("model").loc[order]
    table.insert(0, "encoder", names["label"])
    table.insert(1, "size", names["architecture"])
    return table.reset_index(drop=True)


def caption(study: Study, rows: pd.DataFrame) -> str:
    """What the numbers are."""
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
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return f"{text}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def latex(table: pd.DataFrame, text: str) -> str:
    """A booktabs table."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    body = "\n".join(line(row) for row in table.to_numpy().tolist())
    columns = "ll" + "r" * (len(table.columns) - 2)
    return (
        "\\begin{table}\n"
        f"\\caption{{{_escaped(text)}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{line(list(table.columns))}\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _escaped(text: str) -> str:
    for plain, written in (("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("–", "--"), ("λ", r"$\lambda$")):
        text = text.replace(plain, written)
    return text


def main(arguments: argparse.Namespace) -> None:
    """Write the table in three formats."""
    study = load_study(arguments.config)
    kinds = ("finetuning", "probe", "detection", "segmentation")
    paths = {kind: getattr(arguments, f"{kind}_tables") or [] for kind in kinds}
    rows = with_published(collect(study, **paths), read_table(arguments.reference), study)
    table, text = grid(rows), caption(study, rows)
    for suffix, content in ((".md", markdown(table, text)), (".tex", latex(table, text))):
        with atomic_path(arguments.output.with_suffix(suffix)) as temporary:
            temporary.write_text(content, encoding="utf-8")
    write_table(arguments.output, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write a table of results as CSV, Markdown and LaTeX.")
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML")
    for kind in ("finetuning", "probe", "detection", "segmentation"):
        parser.add_argument(f"--{kind}-tables", type=Path, nargs="+", help="one per encoder")
    parser.add_argument("--reference", type=Path, required=True, help="CSV of published values")
    parser.add_argument("--output", type=Path, required=True, help="….csv; .md and .tex come beside it")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
