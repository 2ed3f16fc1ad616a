"""A study of tiny encoders, pictures for it, and commands that are called as from the command line.

The fixture of a workplace is in conftest.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CATEGORIES = ("bird", "flower", "tool")
SIZE = 48  # px, of the smoke study's images


def smoke_study() -> dict[str, Any]:
    """The smoke study as its file has it."""
    return yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))


def set_key(study: dict[str, Any], key: str, value: Any) -> None:
    """Give a setting, named by a dotted key, another value than it has."""
    *way, last = key.split(".")
    for name in way:
        study = study[name]
    assert study.get(last) != value, f"{key} is {value!r} already"
    study[last] = value


def analysis_of_a_dozen(folder: Path) -> Path:
    """The smoke study with the analysis of :func:`labelled_pictures`, in a file."""
    study = smoke_study()
    study["analysis"] |= {"images": 12, "batch_size": 5}
    study["analysis"]["embedding"] |= {"perplexity": 5, "alternatives": [3], "classes": 2, "images_per_class": 2}
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def labelled_pictures(folder: Path) -> Path:
    """A validation set of random pictures: six identities of three categories, two of each."""
    rows = []
    generator = np.random.default_rng(0)
    for identity in range(6):
        for number in range(2):
            path = folder / "val" / f"id{identity}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
            rows.append({"path": f"val/id{identity}/{number}.png", "category": CATEGORIES[identity % 3]})
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps({"data_hash": "f00d"}))
    return folder


class Workplace:
    """A folder with the smoke study, which a test may edit until a command reads it, and options of every command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options: dict[str, Any] = {"device": "cpu", "threads": 1}
        self.study = smoke_study()

    def shape(self, **sizes: int) -> None:
        """Give these sizes to every architecture."""
        for architecture in self.study["architectures"].values():
            architecture.update(sizes)

    def training(self, model: str) -> dict[str, Any]:
        """The training section of a model."""
        return self.study["models"][model]["training"]

    def config(self) -> Path:
        """The study as it is now, in a file."""
        path = self.folder / "smoke.yaml"
        path.write_text(yaml.safe_dump(self.study), encoding="utf-8")
        return path

    def arguments(self, run: str, **options: Any) -> dict[str, Any]:
        """Arguments of a command about one encoder."""
        return {"config": self.config(), "run": run, **self.options, **options}

    def call(self, command: Callable[..., None], run: str, **options: Any) -> None:
        """Call a command about one encoder; the number of threads is what it was before."""
        threads = torch.get_num_threads()
        try:
            command(**self.arguments(run, **options))
        finally:
            torch.set_num_threads(threads)

    def run_folder(self, runs: str = "runs") -> Path:
        """The one training in a folder of runs."""
        (folder,) = (self.folder / runs).iterdir()
        return folder
