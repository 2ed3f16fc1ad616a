"""A study of tiny encoders, and commands that are called as from the command line; the fixture is in conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent


class Workplace:
    """A folder with the smoke study, which a test may edit until a command reads it, and options of every command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options: dict[str, Any] = {"device": "cpu", "threads": 1}
        self.study: dict[str, Any] = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))

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
