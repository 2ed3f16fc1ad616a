"""A copy of what the workflow reads, and Snakemake in it: results land in a temporary folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cl_vs_mim.config.study import studies_in

ROOT = Path(__file__).resolve().parent.parent
STUDIES = studies_in(ROOT / "config")  # all that ship


def copy_of_workflow(folder: Path) -> Path:
    """A clone at another place, as far as the workflow reads it."""
    for name in ("rules", "report", "config", "data", "profiles", "weights"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference")
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def snakemake(
    checkout: Path, *arguments: str, study: str = "smoke", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Everything that Snakemake has to say, unless another profile is asked for; ``variables`` are set besides."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    environment |= variables or {}
    profile = [] if "--workflow-profile" in arguments else ["--workflow-profile", "none"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *profile, *arguments, "--config", f"study={study}"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )


def jobs_of(output: str) -> dict[str, int]:
    """Counts by rule from the job table that Snakemake prints."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE)}
