"""SECURITY.md names, for every input, the function that checks it and the test that shows it: both exist."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.data.build import recipe_of
from cl_vs_mim.data.writer import build
from cl_vs_mim.pretrain.precision import EXACT, MIXED, recorded
from cl_vs_mim.pretrain.state import RunFolder


def _defined(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)}


def test_every_check_and_test_that_is_named_exists(root: Path) -> None:
    text = (root / "SECURITY.md").read_text(encoding="utf-8")
    table = text.split("## How each input is checked")[1].split("## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) >= 9
    for row in rows:
        checks = re.findall(r"`([a-z_/0-9]+\.py): ([A-Za-z_, 0-9]+)`", row[1])
        tests = re.findall(r"`(test_[a-z_0-9]+\.py): (test_[a-z_0-9]+)`", row[-1])
        assert checks and tests, f"SECURITY.md: {row[0]} names no check or no test"
        for place, names in checks:
            missing = set(names.split(", ")) - _defined(root / "src" / "cl_vs_mim" / place)
            assert not missing, f"{place} has no {missing}"
        for place, name in tests:
            assert name in _defined(root / "tests" / place), f"{place} has no {name}"


def test_a_pipe_in_a_run_folder_hangs_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "x", {"seed": 0})
    run.path.mkdir()
    for name in ("metrics.csv", "precision.json", "checkpoint_000000001.json"):
        os.mkfifo(run.path / name)
    with pytest.raises(UserError, match="named pipe"):
        run.read_log()
    assert recorded(run, lambda: {EXACT: 1.0, MIXED: 2.0})[MIXED] == 2.0  # measured again
    assert not run.is_good(run.path / "checkpoint_000000001.pt")


def test_a_partial_folder_that_leads_elsewhere_or_holds_a_pipe_is_our_own_again(tmp_path: Path, root: Path) -> None:
    recipe = recipe_of(load_study(root / "config" / "smoke.yaml").data, "cue_conflict")
    (tmp_path / ".one.partial").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".two.partial").mkdir()
    os.mkfifo(tmp_path / ".two.partial" / ".lock")
    hashes = {build(recipe, tmp_path / name, quiet=True)["data_hash"] for name in ("one", "two")}
    assert len(hashes) == 1 and not (tmp_path / "elsewhere").exists()


def test_a_table_whose_values_are_no_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"value": ["x"]}).to_parquet(path)
    with pytest.raises(UserError, match="column value holds no numbers"):
        read_table(path)
