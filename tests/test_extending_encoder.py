"""Worked examples of docs/extending.md, from an empty directory: a metric and an architecture family of one's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

SIZE = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
CODE = (
    "from pathlib import Path; from cl_vs_mim.config import load_study;"
    "from cl_vs_mim.analysis.commands import COMMANDS as c; s = load_study(Path('smoke.yaml'));"
    "print(*(one.decided(s, run)['code'] for one in c[:2] for run in ('untrained_vit_seed0', 'untrained_beit_seed0')))"
)
ENCODER = """
import torch
from cl_vs_mim.encoder import EncoderSpec, build_encoder
from cl_vs_mim.encoder.resize import at_grid
from cl_vs_mim.transfer.dense import DenseEncoder
encoder = build_encoder(EncoderSpec("normed_vit", 16, 4, 16, 2, 2), 0).eval()
with torch.no_grad():
    larger, own = torch.randn(2, 3, 24, 24), torch.randn(2, 3, 16, 16)
    resized, dense = at_grid(encoder, 6).states(larger)[-1][:, 1:].mT, DenseEncoder(encoder, [1])(larger)[0].flatten(2)
    print(float((resized - dense).abs().max()))
    print(float((encoder.norm(encoder.states(own)[-1]) - encoder(own)).abs().max()))
"""


def section(root: Path, title: str) -> dict[str, str]:
    page = (root / "docs" / "extending.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^```(python|toml|yaml)\n(.*?)^```", found, re.MULTILINE | re.DOTALL))


def install(folder: Path, blocks: dict[str, str]) -> str:
    """What an installer leaves in site-packages: the module and its entry points. Gives the module's name."""
    project = tomllib.loads(blocks["toml"])["project"]
    ((group, points),) = project["entry-points"].items()
    ((name, module),) = points.items()
    (folder / f"{module}.py").write_text(blocks["python"], encoding="utf-8")
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    return module


def python(place: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), *sys.path])}
    done = subprocess.run(
        [sys.executable, *words], cwd=place, capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def extract(place: Path, run: str) -> pd.DataFrame:
    options = ["--config=smoke.yaml", f"--run={run}", "--data=objects", "--tables=tables", "--device=cpu"]
    python(place, "-m", "cl_vs_mim", "extract", *options)
    return pd.read_parquet(place / "tables" / "attention" / f"{run}.parquet")


@pytest.fixture
def place(tmp_path: Path, root: Path) -> Path:
    """A folder with a small study and images, and nothing else."""
    study = yaml.safe_load((root / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    for architecture in study["architectures"].values():
        architecture.update(SIZE)
    study["analysis"] |= {"images": 4}
    study["figures"]["attention_maps"] |= {"image": 0, "block": 1, "head": 0, "queries": [[0, 0], [1, 1]]}
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    generator = np.random.default_rng(0)
    for number in range(4):
        path = tmp_path / "objects" / "val" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (tmp_path / "objects" / "manifest.json").write_text(json.dumps({"data_hash": "ab" * 32}))
    return tmp_path


@pytest.mark.slow
def test_a_metric_is_measured_and_its_edit_rebuilds_what_has_it(place: Path, root: Path) -> None:
    before = python(place, "-c", CODE).split()
    module = place / f"{install(place, section(root, 'A metric in an existing table'))}.py"
    table = extract(place, "untrained_beit_seed0")
    rows = table[table["metric"] == "attention_to_cls"]
    assert len(rows) == 4 * SIZE["depth"] * SIZE["heads"] and rows["value"].between(0, 1).all()
    assert table["metric"].nunique() == 5
    after = python(place, "-c", CODE).split()
    module.write_text(module.read_text().replace(".mean(-1)", ".amax(-1)"))
    edited = python(place, "-c", CODE).split()
    assert len({before[0], after[0], edited[0]}) == len({before[1], after[1], edited[1]}) == 3  # extract
    assert before[2:] == after[2:] == edited[2:]  # embedding


@pytest.mark.slow
def test_a_family_is_an_architecture_of_a_study(place: Path, root: Path) -> None:
    blocks = section(root, "An architecture family")
    install(place, blocks)
    study = yaml.safe_load((place / "smoke.yaml").read_text(encoding="utf-8"))
    study["architectures"] |= yaml.safe_load(blocks["yaml"])["architectures"]
    study["models"]["moco_v3"]["architecture"] = "normed"
    (place / "smoke.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    table = extract(place, "untrained_normed_seed0")
    assert table["architecture"].unique().tolist() == ["normed"]
    elsewhere, traced = map(float, python(place, "-c", ENCODER).split())
    assert elsewhere < 1e-4 and traced < 1e-5
