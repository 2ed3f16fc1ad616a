"""What decides a rebuild: the configuration a rule reads and what its code does, not how the code looks."""

from __future__ import annotations

import io
import sys

import pytest

from cl_vs_mim.config import load_study
from cl_vs_mim.errors import UserError
from cl_vs_mim.progress import progress
from cl_vs_mim.workflow import (
    _without_docstrings,
    code_digest,
    control_runs,
    sections_digest,
    tokenizer_file,
    trained_runs,
)


def test_comments_and_docstrings_do_not_count_but_code_does() -> None:
    plain = "def f(x):\n    return x + 1\n"
    cosmetic = '"""Module."""\n\ndef f(x):  # adds\n    """Add one."""\n    return (x + 1)\n'
    assert _without_docstrings(plain) == _without_docstrings(cosmetic)
    assert _without_docstrings(plain) != _without_docstrings(plain.replace("1", "2"))


def test_digest_names_modules_and_packages() -> None:
    assert code_digest("encoder") != code_digest("config")
    assert code_digest("encoder", "config") == code_digest("config", "encoder")
    assert len(code_digest("data")) == 12
    with pytest.raises(ModuleNotFoundError):
        code_digest("nosuch")


def test_runs_of_a_study(root) -> None:
    study = load_study(root / "config" / "smoke.yaml")
    names = ("moco_v3", "simmim", "mae", "dino", "tokenizer", "beit", "supervised", "hybrid_05")
    assert trained_runs(study) == {f"{name}_seed0": (name, 0) for name in names}
    assert control_runs(study) == {
        "untrained_vit_seed0": ("untrained_vit", 0),
        "untrained_beit_seed0": ("untrained_beit", 0),
    }
    assert sections_digest(study.data) != sections_digest(study.analysis)


def test_beit_takes_a_tokenizer_of_the_study_or_a_given_file(root, tmp_path) -> None:
    study = load_study(root / "config" / "smoke.yaml")
    assert tokenizer_file(study, "beit", "here") == "here/tokenizer_seed0.safetensors"
    assert tokenizer_file(study, "simmim", "here") is None
    path = tmp_path / "smoke.yaml"
    text = (root / "config" / "smoke.yaml").read_text()
    path.write_text(text.replace("tokenizer: tokenizer\n", "tokenizer_file: codes.safetensors\n"))
    assert tokenizer_file(load_study(path), "beit", "here") == "codes.safetensors"
    path.write_text(text.replace("tokenizer: tokenizer\n", "tokenizer: tokenizer\n      tokenizer_file: codes\n"))
    with pytest.raises(UserError, match="give either tokenizer"):
        load_study(path)


def test_progress_writes_lines_where_there_is_no_terminal(monkeypatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert sum(progress(range(5), desc="count", unit="image")) == 10
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    assert lines[-1].startswith("count: 100% 5/5 image")
