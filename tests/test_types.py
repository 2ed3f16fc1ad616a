"""The types of the package fit each other, as ``make types`` checks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_types_are_clean(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="the type checker is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
