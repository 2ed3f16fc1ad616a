"""The worked example of docs/extending.md, from an empty directory: an objective of one's own, without a fork."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

IMAGES = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory, root: Path) -> Path:
    """What the reader of the section has: the module, installed; a study with the model; images."""
    folder = tmp_path_factory.mktemp("extending")
    page = (root / "docs" / "extending.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## An objective$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    blocks = dict(re.findall(r"^```(python|toml|yaml)\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
    (folder / "rotation.py").write_text(blocks["python"], encoding="utf-8")
    install(folder, tomllib.loads(blocks["toml"])["project"])
    study = yaml.safe_load((root / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    study["models"] |= yaml.safe_load(blocks["yaml"])["models"]
    study["architectures"]["vit"].update(image_size=16, patch_size=4, width=16, depth=2, heads=2)
    study["models"]["moco_v3"]["training"].update(epochs=2, batch_size=4)
    (folder / "smoke.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        path = folder / "objects" / "train" / f"class{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (folder / "objects" / "manifest.json").write_text(json.dumps({"data_hash": "ab" * 32}))
    return folder


def install(folder: Path, project: dict) -> None:
    """What an installer leaves in site-packages beside the module."""
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) for group, points in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def python(place: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(place), *sys.path])},
    )


def train(place: Path) -> subprocess.CompletedProcess:
    words = ["--config=smoke.yaml", "--run=rotation_seed0", "--data=objects", "--runs=runs", "--device=cpu"]
    return python(place, "-m", "cl_vs_mim", "pretrain", *words, "--output=rotation.safetensors", "--log-table=log.csv")


def test_it_trains_and_is_exported(place) -> None:
    done = train(place)
    assert done.returncode == 0, done.stderr[-3000:]
    read = "import sys; from pathlib import Path; from cl_vs_mim.encoder.checkpoints import read_header as r;"
    shown = python(place, "-c", read + "print(r(Path('rotation.safetensors'))[1]['method'])")
    assert shown.stdout.strip() == "rotation"
    log = (place / "log.csv").read_text().splitlines()
    assert "turn_accuracy" in log[0] and len(log) == 1 + 2 * IMAGES // 4


def test_its_keys_are_checked_by_itself(place) -> None:
    wrong = (place / "smoke.yaml").read_text().replace("method: rotation", "method: rotation\n      poolng: cls")
    (place / "wrong").mkdir()
    (place / "wrong" / "smoke.yaml").write_text(wrong)
    shown = python(place, "-m", "cl_vs_mim", "show-study", "--config=wrong/smoke.yaml")
    assert shown.returncode == 2
    assert "models.rotation.objective.poolng: unknown key; did you mean 'pooling'?" in shown.stderr


def test_an_edit_of_its_file_is_in_what_decides_it_and_nothing_else(place) -> None:
    ask = (
        "from pathlib import Path; from cl_vs_mim.config import load_study;"
        "from cl_vs_mim.cli import commands; s = load_study(Path('smoke.yaml'));"
        "print(*(commands()['pretrain'].decided(s, run)['code'] for run in ('rotation_seed0', 'moco_v3_seed0')))"
    )
    before = python(place, "-c", ask).stdout.split()
    module = place / "rotation.py"
    text = module.read_text()
    module.write_text(text.replace("encoder.spec.width, 4)", "encoder.spec.width, 4, bias=False)"))
    after = python(place, "-c", ask).stdout.split()
    module.write_text(text)
    assert len(before) == 2
    assert before[0] != after[0] and before[1] == after[1]
