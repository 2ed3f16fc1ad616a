"""Registers: the project's own things and a user's, by name, without one study seeing another's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cl_vs_mim.core import closure
from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.registry import Register

FIGURES = Register("figure", "cl_vs_mim.figures", "FIGURE")
SOURCE = "from dataclasses import dataclass\n\n@dataclass\nclass Picture:\n    of: str\n\nFIGURE = Picture('{of}')\n"


def write(path: Path, of: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE.format(of=of))
    return path


def test_a_study_adds_files_and_folders_without_another_seeing_them(tmp_path):
    write(tmp_path / "one/mine.py", "one")
    write(tmp_path / "two/mine.py", "two")
    (tmp_path / "one/helper.py").write_text("X = 1\n")
    one, two = FIGURES.extended([tmp_path / "one"]), FIGURES.extended([tmp_path / "two/mine.py"])
    assert "mine" in one.names() and "mine" not in FIGURES.names() and "helper" not in one.names()
    assert one["mine"].of == "one" and two["mine"].of == "two", "files of one name, of two studies"
    assert one["mine"] is one["mine"], "imported once"
    assert one["fig03"] is FIGURES["fig03"]
    with pytest.raises(UserError, match="there is no figure 'mime'; did you mean 'mine'"):
        one["mime"]
    with pytest.raises(UserError, match="there is no figure 'mine'"):
        FIGURES["mine"]


def test_what_cannot_be_added_is_said(tmp_path):
    with pytest.raises(UserError, match="neither a folder nor a Python file"):
        FIGURES.extended([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="figure 'fig03' exists already"):
        FIGURES.extended([write(tmp_path / "fig03.py", "again")])


def test_an_extension_that_fails_leaves_nothing_behind(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("FIGURE = 1 / 0\n")
    register = FIGURES.extended([path])
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        register["broken"]
    assert {name for name in set(sys.modules) - before if "extension" in name} == set()


def test_the_digest_of_code_follows_an_extension_wherever_it_lies(tmp_path):
    first, moved = write(tmp_path / "a/mine.py", "one"), write(tmp_path / "b/mine.py", "one")
    other = write(tmp_path / "c/mine.py", "two")
    assert code_digest(str(first)) == code_digest(str(moved)) != code_digest(str(other))
    first.write_text(first.read_text() + "from cl_vs_mim.metrics import attention\n")
    for name in ("_source", "_tree", "_imports", "_code"):
        getattr(closure, name).cache_clear()
    assert "cl_vs_mim.metrics.attention" in closure.closure([str(first)])
