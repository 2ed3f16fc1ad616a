"""How long the README's two commands take on a machine that has nothing yet.

    python bench/bench_first_run.py --output results/bench/first_run.csv

Clones the committed state into a temporary folder and runs there, one after the other: the set-up, ``make fig3``,
``make all`` (what Figure 3 has not built), the set-up again (nothing to do) and ``make test``. What is not committed is
not measured. uv's cache is the user's own: ``UV_CACHE_DIR=$(mktemp -d)`` measures a machine that has never fetched a
package.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.tables import device_name, read_table, write_table

ROOT = Path(__file__).resolve().parent.parent
STEPS = {"set-up": "setup", "fig3": "fig3", "all": "all", "set-up again": "setup", "test": "test"}


def main(arguments: argparse.Namespace) -> None:
    """Clone, time each step, write its row at once; rows of steps not asked for stay as they are."""
    with tempfile.TemporaryDirectory(prefix="first-run-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        head = ["git", "-C", str(clone), "rev-parse", "--short=12", "HEAD"]
        commit = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
        machine = {"cores": os.cpu_count(), "device": device_name(torch.device("cpu")), "git_commit": commit}
        for step in arguments.steps:
            log = Path(folder) / "log"
            began = time.monotonic()
            with log.open("w") as stream:
                result = subprocess.run(["make", STEPS[step]], cwd=clone, stdout=stream, stderr=subprocess.STDOUT)
            seconds = time.monotonic() - began
            tail = log.read_text(errors="replace").splitlines()[-arguments.lines :]
            print(f"{step}: {seconds:.1f} s, status {result.returncode}", *tail, sep="\n    ", flush=True)
            if result.returncode:
                raise UserError(f"make {STEPS[step]} failed in a fresh clone; its last lines are above")
            row = {"step": step, "seconds": round(seconds, 1), "last_line": tail[-1] if tail else ""}
            if arguments.output is not None:
                write_row(arguments.output, row | machine)


def write_row(path: Path, row: dict[str, object]) -> None:
    """Put the row of a step into the table, in the order of :data:`STEPS`."""
    table = pd.DataFrame([row])
    if path.exists():
        before = read_table(path)
        table = pd.concat([before[before["step"] != row["step"]], table], ignore_index=True)
    order = {step: place for place, step in enumerate(STEPS)}
    write_table(path, table.sort_values("step", key=lambda steps: steps.map(order)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=main.__doc__)
    result.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    result.add_argument("--lines", type=int, default=3, help="of each step's output to print")
    result.add_argument("--output", type=Path, help=".csv")
    return result


if __name__ == "__main__":
    run_cli(main, parser())
