"""The card of an encoder that is handed on: what it is, how it was made, and its numbers, in the hub's conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cl_vs_mim.config import KitData, Study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file, write_text
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.encoder.checkpoints import read_header
from cl_vs_mim.evaluated import find_run
from cl_vs_mim.metrics.yardstick import uniform_attention_distance

LIBRARY = "cl-vs-mim"
KINDS = ("attention", "linear_probe")  # of tables that a card quotes
_REDUCED = "A reduced study: for seeing what an objective teaches an encoder, and nothing else."
_TAGS = {
    "cl": "contrastive-learning",
    "mim": "masked-image-modeling",
    "hybrid": "contrastive-learning",
    "supervised": "image-classification",
    "tokenizer": "vector-quantization",
}
_MADE = {
    "images": "images seen",
    "steps": "optimiser steps",
    "precision": "precision of training",
    "seed": "seed",
    "git_commit": "commit of the code",
    "data_hash": "sha256 of the training set",
    "device": "device",
    "packages": "packages",
}


def write_card(study: Study, run: str, weights: Path, tables: Path, output: Path) -> None:
    """Write the card beside an encoder.

    Args:
        study: that trained and measured it.
        run: stem of the encoder, such as ``moco_v3_seed0``.
        weights: the file that is handed on.
        tables: folder of the study's tables; those of :data:`KINDS` that are there are quoted.
        output: ``.md``.

    Raises:
        UserError: the file was not written by ``cl-vs-mim export-weights``.
    """
    evaluated = find_run(study, run)
    spec, made = read_header(weights)
    if "recipe" not in made:
        raise UserError(f"{weights} does not say how it was made; write it with: cl-vs-mim export-weights")
    front = {
        "library_name": LIBRARY,
        **({"license": "mit"} if isinstance(study.data, KitData) else {}),  # ours to give where the images are ours
        "pipeline_tag": "image-feature-extraction",
        "tags": ["vision-transformer", "self-supervised-learning", _TAGS[evaluated.paradigm], "replication"],
    }
    facts = {label: made[key] for key, label in _MADE.items() if key in made}
    facts["sha256 of this file"] = sha256_file(weights)
    recipe = yaml.safe_dump(made["recipe"], sort_keys=False, allow_unicode=True, width=110)
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {evaluated.label}, seed {evaluated.seed}, of study `{study.study}`",
        f"{study.title}. {_REDUCED * study.reduced}".strip(),
        f"```python\nfrom cl_vs_mim.encoder.checkpoints import load_encoder\n\n"
        f'encoder = load_encoder("{weights.name}", "native")  # float16 in the file, float32 in memory\n```',
        "## How it was made",
        _rows([("", ""), *((label, f"`{value}`") for label, value in facts.items())]),
        f"Architecture: {', '.join(f'{key} {value}' for key, value in spec.to_dict().items() if value is not None)}.",
        f"```yaml\n{recipe}```",
    ]
    if isinstance(study.data, KitData):
        parts.append(
            "The training images are composed of the cut-outs, backgrounds and textures of `data/kit/`, which keep "
            "their own licences."
        )
    parts += _numbers(run, spec.grid, spec.patch_size, tables)
    write_text(output, "\n\n".join(parts) + "\n")


def _numbers(run: str, grid: int, patch_size: int, tables: Path) -> list[str]:
    """Sections with what was measured, by depth; none where nothing was."""
    columns: dict[str, Any] = {}
    attention, probe = (tables / kind / f"{run}.parquet" for kind in KINDS)
    if attention.exists():
        frame = read_table(attention)
        mean = frame.pivot_table("value", "depth", "metric", "mean", observed=True)
        uniform = uniform_attention_distance(grid, patch_size)
        columns["attention distance / uniform"] = mean["attention_distance"] / uniform
        columns["normalised mutual information"] = mean["nmi"]
        columns["attention entropy"] = mean["attention_entropy"]
    if probe.exists():
        frame = read_table(probe)
        frame = frame[(frame["pooling"] == "mean") & (frame["depth"] > 0)]
        for (labels, split), rows in frame.groupby(["labels", "split"], observed=True):
            columns[f"linear probe, {labels}, {split}"] = rows.groupby("depth")["value"].mean()
    if not columns:
        return []
    shown = pd.DataFrame(columns).map("{:.3f}".format)
    header = ("block", *map(str, shown.columns))
    lines = [header, *((f"{depth:g}", *row) for depth, *row in shown.itertuples())]
    return ["## What was measured of it", _rows(lines), "Means over heads and images; probes on mean-pooled tokens."]


def _rows(lines: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first line is its head."""
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])
