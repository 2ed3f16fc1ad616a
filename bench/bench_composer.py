"""How many single-object images a second the composer writes, everything included.

``python bench/bench_composer.py --workers 2 --images 6000 --output results/bench/composer.csv``

Counted from an empty folder to the finished data set: decoding and verifying the kit, composing, JPEG, writing,
sha256, tables. Prints one JSON line and one line for people.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from cl_vs_mim.config import ObjectImages
from cl_vs_mim.core.errors import run_cli
from cl_vs_mim.core.tables import device_name, write_table
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.objects import ObjectRecipe
from cl_vs_mim.data.writer import build

_CPU_AT_START = time.process_time()  # imports
TARGET = 600.0  # images/s of 96 px on 2 cores


def _main(arguments: argparse.Namespace) -> None:
    kit = Kit.open(arguments.kit)
    identities = len(kit.select("object", "train"))
    settings = ObjectImages(
        image_size=arguments.size,
        train_per_identity=max(1, round(arguments.images / identities)),
        val_per_identity=1,
        heldout_per_object=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        manifest = build(ObjectRecipe(kit, settings, 0), Path(folder) / "objects", arguments.workers, quiet=True)
        seconds = time.perf_counter() - start
    result = {
        "benchmark": "composer",
        "size_px": arguments.size,
        "workers": arguments.workers,
        "images": manifest["images"],
        "seconds": round(seconds, 2),
        "images_per_second": round(manifest["images"] / seconds, 1),
        "cpu_ms_per_image": round(1000 * _cpu_seconds() / manifest["images"], 2),
        "target_images_per_second": TARGET,
        "cpu": device_name(torch.device("cpu")),
    }
    print(json.dumps(result))
    print(
        f"{result['images']} images of {arguments.size} px in {seconds:.1f} s with {arguments.workers} workers: "
        f"{result['images_per_second']:.0f} images/s (target {TARGET:.0f} at 96 px on 2 cores), "
        f"{result['cpu_ms_per_image']:.2f} ms of CPU each"
    )
    if arguments.output:
        write_table(arguments.output, pd.DataFrame([result]))


def _cpu_seconds() -> float:
    """CPU time of this process and its finished workers: what the machine's other load does not change."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) - _CPU_AT_START


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the composer's speed.")
    parser.add_argument("--kit", type=Path, default=Path("data/kit"))
    parser.add_argument("--size", type=int, default=96, help="side of the images, px")
    parser.add_argument("--images", type=int, default=6000, help="about this many")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, help="CSV to write")
    return parser


if __name__ == "__main__":
    run_cli(_main, _parser())
