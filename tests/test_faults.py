"""A fault at some file operations of three commands: one line or a kill, and the same command goes on.

Its files are then those of an undisturbed run. ``make faults`` has a fault at every operation of every command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cl_vs_mim.core.tables import git_commit, write_table
from faults import outcomes

ROOT = Path(__file__).resolve().parent.parent
KILLED = -9
SOME = ["compose", "pretrain", "extract"]  # a file at once, over a long time, and several files
EVERY = os.environ.get("FAULTS") == "every"  # set by `make faults`


def cases(folder: Path, *words: str) -> list[dict[str, Any]]:
    """What ``tests/faults.py`` found."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "faults.py"), str(folder), *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=None if EVERY else 900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def faulty(case: dict[str, Any]) -> list[str]:
    """What is wrong with a case."""
    said, wrong = case["said"], []
    if case["status"] not in ((KILLED,) if case["kind"] == "kill" else (0, 2)):
        wrong.append(f"ended with {case['status']}: {said}")
    if "Traceback" in said or (case["status"] == 2 and "error: " not in said):
        wrong.append(f"no line of its own: {said}")
    if case["again"] != 0:
        wrong.append(f"the same command does not go on: {case['said_again']}")
    elif not case["same"]:
        wrong.append("its files are not those of an undisturbed run")
    if case["hidden"]:
        wrong.append(f"left {case['hidden']}")
    return [f"{case['command']}, {case['kind']} at {case['at']}: {one}" for one in wrong]


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_after_any_fault_the_same_command_goes_on_and_leaves_nothing_hidden(tmp_path: Path) -> None:
    found = cases(tmp_path, *(["--every"] if EVERY else SOME))
    assert {case["command"] for case in found} >= set(SOME) and (len(found) >= 15 * 5 or not EVERY)
    assert {case["kind"] for case in found} == {"kill", "full", "short", "read-only", "vanished"}
    if EVERY:
        write_table(ROOT / "results" / "bench" / "faults.csv", outcomes(found).assign(git_commit=git_commit()))
    assert [one for case in found for one in faulty(case)] == []
