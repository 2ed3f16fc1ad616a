"""The worked example of docs/extending.md, from an empty directory: a figure of one's own, without a fork."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from figure_tables import BLOCKS, ENCODERS, attention_table, write_all
from test_extending_objective import install, python

NAME = "entropy_information"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """What the reader of the section has: the module, installed; a study and its tables."""
    folder = tmp_path_factory.mktemp("extending")
    page = (root / "docs" / "extending.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## A table and a figure$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    blocks = dict(re.findall(r"^```(python|toml)\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
    (folder / f"{NAME}.py").write_text(blocks["python"], encoding="utf-8")
    install(folder, tomllib.loads(blocks["toml"])["project"])
    (folder / "smoke.yaml").write_text((root / "config" / "smoke.yaml").read_text("utf-8"), "utf-8")
    write_all(folder / "tables" / "attention", {f"{model}_seed0": attention_table(model) for model in ENCODERS})
    return folder


def test_it_is_drawn_from_the_tables_it_names(place: Path) -> None:
    words = ["--config=smoke.yaml", "--tables=tables", "--output=out/mine.pdf"]
    done = python(place, "-m", "cl_vs_mim", "figures", NAME, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (place / "out").iterdir()) == ["mine.csv", "mine.pdf", "mine.png"]
    drawn = pd.read_csv(place / "out" / "mine.csv")
    assert list(dict.fromkeys(drawn["model"])) == ["moco_v3", "simmim", "untrained_vit", "untrained_beit"]
    assert len(drawn) == len(ENCODERS) * BLOCKS


def test_the_workflow_has_it_and_an_edit_draws_it_again(place: Path) -> None:
    ask = (
        "from pathlib import Path; from cl_vs_mim.config import load_study;"
        "from cl_vs_mim.figures.commands import COMMANDS; from cl_vs_mim.figures.figure import figures_of;"
        f"study = load_study(Path('smoke.yaml')); name = figures_of(study)['{NAME}'];"
        "print(COMMANDS[0].decided(study, name)['code'], COMMANDS[0].decided(study, 'fig03')['code'])"
    )
    before = python(place, "-c", ask)
    assert before.returncode == 0, before.stderr[-3000:]
    module = place / f"{NAME}.py"
    module.write_text(module.read_text("utf-8").replace("style.SINGLE, 3.0", "style.SINGLE, 3.5"), "utf-8")
    own, others = before.stdout.split()
    assert python(place, "-c", ask).stdout.split()[0] != own
    assert python(place, "-c", ask).stdout.split()[1] == others
