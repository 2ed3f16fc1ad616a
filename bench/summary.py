"""The page of measured speeds, from the tables of ``results/bench/``: no number in it is typed.

python bench/summary.py --tables results/bench --output docs/benchmarks.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.core.files import write_text
from cl_vs_mim.core.tables import read_table

PAGES = {
    "first_run.csv": (
        "The README's commands in a fresh clone",
        "`python bench/bench_first_run.py --output results/bench/first_run.csv`. The row `all` was taken while other "
        "work ran on the same two cores: an idle machine is faster. Each row is of the commit that it names.",
        ["step", "seconds", "last_line", "git_commit"],
    ),
    "composer.csv": (
        "Composing images",
        "`python bench/bench_composer.py --output results/bench/composer.csv`. The goal was 600 images a second at "
        "96 px on 2 cores, reading, composing, encoding and writing included.",
        None,
    ),
    "pretrain.csv": (
        "Pre-training",
        "`python bench/bench_pretrain.py --output results/bench/pretrain.csv`. Our loop, without and with compiled "
        "blocks, against a plain one in the same run: JPEG files decoded by worker processes at every epoch, "
        "torchvision's transforms, one forward pass a view, unfused attention and optimizer. The goal on 2 CPU cores "
        "is 2.5 (`of_plain`); those on a GPU are not measured. On a CPU `of_before` is the multiple of the loop as it "
        "was: float32, fused attention, memory given back after every use; `cpu_of_…` are the same ratios in CPU time, "
        "which hold on a busy machine too. `of_peak`: the matrix products of a step over what one large product does "
        "on this device. `added_mib`: peak memory of a process of its own at that batch size, above what it began "
        "with.",
        [
            "model",
            "shape",
            "measure",
            "way",
            "batch_size",
            "threads",
            "precision",
            "images_per_second",
            "of_plain",
            "of_before",
            "cpu_of_plain",
            "cpu_of_before",
            "of_peak",
            "added_mib",
            "share_augment",
        ],
    ),
    "extract.csv": (
        "Looking inside an encoder",
        "`python bench/bench_extract.py --output results/bench/extract.csv`. One pass measures everything behind "
        "Figures 3 to 8. Memory of a process of its own for each number of images: `added_mib` is what the work added. "
        "Speed as a share of the fused forward pass, which forms no maps (goal: 0.3 on a CPU), and as a multiple of "
        "the plain way, which keeps all maps and states and loops in NumPy (goal: 5 on a CPU); the two must agree. "
        "`traced` is the pass that forms the maps and measures nothing: the ceiling of any streaming.",
        ["encoder", "measure", "way", "images", "peak_mib", "added_mib", "images_per_second", "of_fused", "of_plain"],
    ),
    "probe.csv": (
        "Probing every depth",
        "`python bench/bench_probe.py --output results/bench/probe.csv`. Features (decoding and one pass, which one "
        "probe needs as well) and the fit, in seconds; probes of all depths, poolings and learning rates at once as "
        "multiples of one probe in the same run: the fit alone, both together (the goal was at most 2), and what a "
        "loop over single probes would take. The fit grows with epochs and learning rates and the features do not, so "
        "the ratio holds for these settings, those of the `quick` study, and for an encoder as small as its.",
        [
            "probes",
            "features_s",
            "fit_s",
            "fit_of_one",
            "total_of_one",
            "loop_of_one",
            "images",
            "classes",
            "rates",
            "epochs",
        ],
    ),
}
_HEAD = ("study", "git_commit", "config_hash", "data_hash", "packages", "device", "cpu")


def page(folder: Path) -> str:
    """The Markdown text; a table that was not measured is said to be missing."""
    parts = [
        "# Measured speeds",
        "Made by `make bench` from the tables in `results/bench/`. Absolute numbers hold for the machine named; the "
        "ratios, of two things measured in turn in one run, travel better.",
    ]
    for name, (title, text, columns) in PAGES.items():
        parts.append(f"## {title}\n\n{text}")
        if not (folder / name).exists():
            parts.append("Not measured yet.")
            continue
        table = read_table(folder / name)
        machine = next((table[column].iloc[0] for column in ("device", "cpu") if column in table), "unknown")
        commits = list(dict.fromkeys(table["git_commit"])) if "git_commit" in table else ["not recorded"]
        named = f"commit{'s' if len(commits) > 1 else ''} {', '.join(map(str, commits))}"
        shown = table[[name for name in columns or table if name in table and (columns or name not in _HEAD)]]
        parts += [markdown(shown), f"{machine}; {named}."]
    return "\n\n".join(parts) + "\n"


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table: numbers to three figures, from 100 on to whole ones; empty cells empty."""

    def cell(value: object) -> str:
        if pd.isna(value):
            return ""
        if isinstance(value, float):
            return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
        return str(value).replace("|", "/")

    lines = [list(table.columns), ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def main(arguments: argparse.Namespace) -> None:
    """Write the page."""
    write_text(arguments.output, page(arguments.tables))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description="Write the page of measured speeds.")
    result.add_argument("--tables", type=Path, default=Path("results/bench"))
    result.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    return result


if __name__ == "__main__":
    run_cli(main, parser())
