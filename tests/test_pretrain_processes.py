"""Two processes on CPUs: the same global batch gives the same weights as one process, but for the order of sums."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from cl_vs_mim.pretrain import distributed
from cl_vs_mim.pretrain.commands import pretrain
from cl_vs_mim.pretrain.distributed import GlobalBatchNorm1d, gather_rows, own_rows, share_batch_norms

ROOT = Path(__file__).resolve().parent.parent
CROP = {"crop_scale": [0.5, 1.0]}
OBJECTIVES = {
    "moco_v3": None,
    "simmim": None,
    "mae": None,
    "hybrid_05": None,
    "moco_v3_beit": {"architecture": "beit"},
    "supervised": {"objective": {"classes": 3, "mixup": 0, "cutmix": 0}},
    "dino": {
        "objective": {
            **{"method": "dino", "teacher_temperature": 0.06, "momentum": 0.9, "hidden": 20, "bottleneck": 6},
            **{"prototypes": 10, "views": [CROP, CROP, CROP | {"size": 8}]},
        }
    },
}
COMMANDED = ("moco_v3", "simmim", "mae", "dino")  # with the command, in float32
TOLERANCE = 1e-7  # in float64, of the distance between the encoders after 15 steps, over the way of the training


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A study of tiny models and 12 images."""
    folder = tmp_path_factory.mktemp("processes")
    rng = np.random.default_rng(0)
    for number in range(12):
        path = folder / "data" / "train" / f"class{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (folder / "data" / "manifest.json").write_text(json.dumps({"data_hash": "ab" * 32}))
    study = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    for architecture in study["architectures"].values():
        architecture.update(image_size=16, patch_size=4, width=16, depth=2, heads=2)
    template = study["models"]["moco_v3"]
    for name, changes in OBJECTIVES.items():
        model = copy.deepcopy(study["models"].get(name, template))
        for key, value in (changes or {}).items():
            model[key] = (model[key] if name != "dino" else {}) | value if isinstance(value, dict) else value
        model["training"] |= {
            **{"epochs": 3, "warmup_epochs": 0, "batch_size": 6, "base_lr": 1e-3, "lr_batch": 6, "clip_norm": 1.0},
            **{"checkpoint_steps": 3, "log_steps": 1, "drop_path": 0.0},
        }
        study["models"][name] = model
    (folder / "smoke.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return folder


def train(place: Path, model: str, devices: int) -> tuple[dict[str, torch.Tensor], Path]:
    """Trained on CPUs: by the command, or where one process is enough by this one."""
    runs, output = place / f"runs_{model}_{devices}", place / f"{model}_{devices}.safetensors"
    given = {"config": place / "smoke.yaml", "run": f"{model}_seed0", "data": place / "data", "runs": runs}
    given |= {"output": output, "device": "cpu", "threads": 1, "devices": devices}
    if devices == 1:
        threads = torch.get_num_threads()
        pretrain(**given)
        torch.set_num_threads(threads)
    else:
        done = subprocess.run(
            [sys.executable, "-m", "cl_vs_mim", "pretrain", *(f"--{key}={value}" for key, value in given.items())],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = runs.iterdir()
    return load_file(output), folder


@pytest.mark.slow
@pytest.mark.parametrize("model", COMMANDED)
def test_two_processes_end_with_the_weights_of_one(place, model):
    (one, folder), (two, other) = train(place, model, 1), train(place, model, 2)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=2e-3, atol=2e-4, msg=lambda text, name=name: name + text)
    norms = [float(pd.read_csv(run / "metrics.csv")["grad_norm"][0]) for run in (folder, other)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4), "before anything is amplified"
    assert (folder / "metrics.csv").read_text().count("\n") == (other / "metrics.csv").read_text().count("\n")
    assert len(list(other.glob("checkpoint_*.pt"))) == 2, "one process writes"


def test_without_a_process_group_everything_is_ones_own():
    rows = torch.arange(6.0).view(3, 2)
    assert torch.equal(own_rows(3, lambda count: rows[:count]), rows)
    gathered, start = gather_rows(rows)
    assert gathered is rows and start == 0


def test_shared_batch_norms_keep_weights_and_values():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.BatchNorm1d(5, affine=False))
    rows = torch.randn(8, 4)
    module(rows)
    expected = module(rows)
    shared = share_batch_norms(module)
    assert [type(layer) for layer in shared][1::2] == [GlobalBatchNorm1d] * 2
    torch.testing.assert_close(shared(rows), expected)


def test_shared_statistics_of_features_far_from_0_are_those_of_float64(monkeypatch):
    """As of two processes with the same rows: |mean| / spread is 100, whose squares float32 cannot tell apart."""
    rows = (100 + torch.randn(16, 5, generator=torch.Generator().manual_seed(0))).requires_grad_()
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", lambda values: 2 * values)
    shared = distributed.GlobalBatchNorm1d(5, affine=False)
    exact = nn.BatchNorm1d(5, affine=False).double()
    weights = torch.randn(16, 5)
    expected = exact(torch.cat([rows, rows]).double())
    expected_gradient = torch.autograd.grad((expected[:16] * weights).sum() + (expected[16:] * weights).sum(), rows)[0]
    found = shared(rows)
    torch.testing.assert_close(found, expected[:16].float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(shared.running_var, exact.running_var.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(shared.running_mean, exact.running_mean.float())
    (gradient,) = torch.autograd.grad((found * weights).sum(), rows)
    torch.testing.assert_close(2 * gradient, expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_in_float64_two_processes_are_one_for_every_method(place):
    """In float32 the steps amplify rounding: docs/reproducibility.md has by how much."""
    found = []
    for devices in (1, 2):
        output = place / f"float64_{devices}.pt"
        words = [str(ROOT / "tests" / "two_processes.py"), str(place / "smoke.yaml"), str(devices), str(output)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *words, *OBJECTIVES], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(torch.load(output))
    one, two = found
    apart = {
        name: float((two[name]["ended"] - one[name]["ended"]).norm() / (one[name]["ended"] - one[name]["begun"]).norm())
        for name in OBJECTIVES
    }
    assert {name for name, share in apart.items() if share > TOLERANCE} == set(), apart
