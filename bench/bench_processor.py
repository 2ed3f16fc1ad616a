"""How far tables, verdicts and figures of one encoder move when the processor has fewer instruction sets.

    python bench/bench_processor.py --data results/overnight/data/objects --output results/bench/processor.csv

The shipped encoders and an untrained one of each architecture are measured in processes of their own, once as the
processor is, once with PyTorch kept from its vector instructions (``ATEN_CPU_CAPABILITY=default``) and once with
oneDNN, numpy and OpenCV kept from them too. A row says for a kind of table how far its values differ from the first
run's: the largest difference as a share of the largest value of the same column, and of how many values the last digit
differs. The verdicts on all claims are counted in each. The rows ``drawn:`` are of one set of tables, judged and drawn
in each way: which files are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.tables import device_name, git_commit, read_table, write_table

RUNS = ("moco_v3_seed0", "simmim_seed0", "untrained_vit_seed0", "untrained_beit_seed0")
FIGURE = "fig3"
WAYS: dict[str, dict[str, str]] = {
    "as it is": {},
    "PyTorch without": {"ATEN_CPU_CAPABILITY": "default"},
    "all without": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3 AVX512_ICL AVX512_SPR",
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,FP16,AVX,SSE4.2,SSE4.1",
        "OPENCV_IPP": "disabled",
    },
}


def main(arguments: argparse.Namespace) -> None:
    """Measure every way and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        arguments.config = _of_one_seed(arguments.config, Path(folder))
        made = {way: _measured(arguments, Path(folder) / str(number), way) for number, way in enumerate(WAYS)}
        first = made.pop("as it is")
        rows = [row for way, tables in made.items() for row in _differences(first, tables, way)]
        one = _drawn(arguments, first, first / "drawn", "as it is")
        for way, tables in made.items():
            other = _drawn(arguments, first, tables / "drawn", way)
            rows += [{"way": way, "what": f"drawn: {name}", "equal": one[name] == other[name]} for name in one]
    head = {"git_commit": git_commit(), "cpu": device_name(torch.device("cpu"))}
    write_table(arguments.output, pd.DataFrame(rows).assign(**head))
    print(pd.DataFrame(rows).to_string(index=False))


def _of_one_seed(config: Path, folder: Path) -> Path:
    """The study with the first seed of each encoder alone."""
    study = yaml.safe_load(config.read_text(encoding="utf-8"))
    for model in study["models"].values():
        model["seeds"] = [0]
    study["analysis"]["control_seeds"] = [0]
    path = folder / config.name
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def _measured(arguments: argparse.Namespace, folder: Path, way: str) -> Path:
    """The tables and verdicts of all runs, in ``folder``."""
    for run in RUNS:
        weights = arguments.weights / f"{run}.safetensors"
        given = ["--encoder", str(weights)] if weights.exists() else []
        _command(
            way, "extract", arguments, "--run", run, *given, "--data", arguments.data, "--tables", folder / "tables"
        )
    _command(way, "claims", arguments, "--tables", folder / "tables", "--output", folder / "claims.json")
    return folder


def _drawn(arguments: argparse.Namespace, tables: Path, folder: Path, way: str) -> dict[str, str]:
    """sha256 of what is made of the tables, by name."""
    folder.mkdir()
    common = ("--tables", tables / "tables", "--output")
    _command(way, "figures", arguments, *common, folder / f"{FIGURE}.pdf", name=FIGURE)
    _command(way, "claims", arguments, *common, folder / "claims.json")
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def _command(way: str, verb: str, arguments: argparse.Namespace, *given: object, name: str = "") -> None:
    program = Path(sys.executable).parent / "cl-vs-mim"
    command = [program, verb, *filter(None, [name]), "--config", arguments.config, *given]
    subprocess.run([str(word) for word in command], env=os.environ | WAYS[way], check=True, stdout=subprocess.DEVNULL)


def _differences(first: Path, other: Path, way: str) -> list[dict[str, object]]:
    """A row for each kind of table, and one for the verdicts."""
    kinds: dict[str, dict[str, list[float]]] = {}
    for path in sorted((first / "tables").rglob("*.parquet")):
        one, two = read_table(path), read_table(other / path.relative_to(first))
        found = kinds.setdefault(path.parent.name, {"largest": [], "differ": [], "values": []})
        for column in one.select_dtypes("floating"):
            a, b = one[column].to_numpy(float), two[column].to_numpy(float)
            there = np.isfinite(a) & np.isfinite(b)
            scale = np.abs(a[there]).max(initial=0)
            found["largest"].append(float(np.abs(a - b)[there].max(initial=0) / scale) if scale else 0.0)
            found["differ"].append(float((a[there] != b[there]).sum()))
            found["values"].append(float(there.sum()))
    rows: list[dict[str, object]] = [
        {
            "way": way,
            "what": kind,
            "largest_of_range": max(found["largest"], default=0.0),
            "share_differing": sum(found["differ"]) / max(sum(found["values"]), 1),
            "equal": not sum(found["differ"]),
        }
        for kind, found in kinds.items()
        if found["largest"]
    ]
    verdicts = [json.loads((folder / "claims.json").read_text()) for folder in (first, other)]
    counts = [json.dumps(result["verdicts"], sort_keys=True) for result in verdicts]
    rows.append({"way": way, "what": "verdicts", "equal": counts[0] == counts[1], "counted": counts[1]})
    return rows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description="Tables and verdicts under fewer instruction sets.")
    result.add_argument("--config", type=Path, default=Path("config/overnight.yaml"))
    result.add_argument("--weights", type=Path, default=Path("weights/overnight"))
    result.add_argument("--data", type=Path, required=True, help="the study's composed objects")
    result.add_argument("--output", type=Path, required=True)
    return result


if __name__ == "__main__":
    run_cli(main, parser())
