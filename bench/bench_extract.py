"""What does measuring everything behind Figures 3 to 8 in one pass cost, and does its memory grow with the images?

    python bench/bench_extract.py --output bench_extract.csv

Speed: images per second, on pixels at hand, of the fused forward pass that forms no maps, of the same pass block by
block with its maps (traced), of the streaming pass with all metrics, and of the plain way: keep all maps and states,
then loop over images, blocks and heads in NumPy (``plain_metrics.py``). Nothing is reported if the last two
disagree. The image-level spectrum, made from the mean tokens after the pass, is in neither.
Memory: peak resident set, and what the work added to it, of a process of its own for each number of images, decoding
included.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from cl_vs_mim.analysis.extract import measure
from cl_vs_mim.analysis.metrics import Measurement
from cl_vs_mim.analysis.streaming import stream
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.tables import row_head, with_head, write_table
from cl_vs_mim.data.images import index_image_folder, normalise
from cl_vs_mim.encoder.model import Encoder, EncoderSpec, build_encoder
from cl_vs_mim.evaluated import batches
from plain_metrics import differences, reduce, store

_LEAST_SECONDS = 5.0  # of a speed: small shapes take more rounds than --repeats
_TOLERANCE = 1e-4  # between streamed float32 and plain float64 values, relative to 1 + the value


class Shape(NamedTuple):
    """An encoder, and the numbers of images it is measured on."""

    spec: EncoderSpec
    batch: int  # images of the speed, and in a batch of the memory
    plain_limit: int  # images that the plain way can hold: it keeps 23 MB of each of ViT-S/16


SHAPES = {
    "ViT-64/8": Shape(EncoderSpec("vit", 48, 8, 64, 6, 4), 64, 512),  # of the quick study
    "ViT-S/16": Shape(EncoderSpec("vit", 224, 16, 384, 12, 6), 32, 64),
}

# ------------------------------------------------------------------------------------------------
# Children: one process for each measurement
# ------------------------------------------------------------------------------------------------


def measure_memory(way: str, shape: Shape, count: int, folder: Path, threads: int, device: str) -> list[dict]:
    """Do the work once; the peak of this process."""
    encoder = _encoder(shape, threads, device)
    index = index_image_folder(folder)
    positions = np.arange(count)
    images = batches(index, positions, shape.spec.image_size, 1.0, shape.batch, threads)
    before = _memory("VmRSS")
    start = time.perf_counter()
    if way == "streaming":
        for metric in measure(encoder, images, [index.paths[i] for i in positions], way):
            metric.result()
    else:
        reduce(store(encoder, images, count), shape.spec.patch_size)
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM")
    return [{"images": count, "peak_mib": peak, "added_mib": peak - before, "images_per_second": count / seconds}]


def _memory(field: str) -> float:
    """Resident set (VmRSS) or its peak (VmHWM) of this process in MiB. ``ru_maxrss`` would include the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def measure_speed(shape: Shape, threads: int, repeats: int, device: str) -> list[dict]:
    """Images per second of each way; shares are medians over rounds in which all ways but the plain take turns.

    The plain way, which may take a minute, is timed after them.

    Raises:
        UserError: the streaming pass and the plain way disagree.
    """
    encoder = _encoder(shape, threads, device)
    size = (shape.batch, 3, shape.spec.image_size, shape.spec.image_size)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def fused() -> None:
        encoder(normalise(images.to(device))).cpu()

    @torch.inference_mode()
    def traced() -> None:
        for _ in encoder.trace(encoder.embed(normalise(images.to(device)))):
            pass
        if device == "cuda":
            torch.cuda.synchronize()

    def streaming() -> dict[str, np.ndarray]:
        metrics = Measurement(encoder.spec)
        list(stream(encoder, [images], list(metrics)))
        return {metric.name: metric.result() for metric in metrics}

    def plain() -> dict[str, np.ndarray]:
        return reduce(store(encoder, [images], len(images)), shape.spec.patch_size)

    ways = (fused, traced, streaming)
    streamed = [way() for way in ways][-1]  # warms up
    rounds, start = [], time.perf_counter()
    while len(rounds) < repeats or time.perf_counter() - start < _LEAST_SECONDS:
        rounds.append({way.__name__: _seconds(way) for way in ways})
    plain_seconds, start = [], time.perf_counter()
    errors = differences(plain(), streamed)
    while not plain_seconds or time.perf_counter() - start < _LEAST_SECONDS:
        plain_seconds.append(_seconds(plain))
    worst = max(errors, key=errors.get)
    if not errors[worst] < _TOLERANCE:
        raise UserError(f"the plain way and the streaming pass differ by {errors[worst]:.2g} in {worst}; mend one")
    rounds = [seconds | {"plain": statistics.median(plain_seconds)} for seconds in rounds]
    return [
        {
            "way": way,
            "images": len(images),
            "images_per_second": statistics.median(len(images) / seconds[way] for seconds in rounds),
            "of_fused": statistics.median(seconds["fused"] / seconds[way] for seconds in rounds),
            "of_plain": statistics.median(seconds["plain"] / seconds[way] for seconds in rounds),
        }
        for way in rounds[0]
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _encoder(shape: Shape, threads: int, device: str) -> Encoder:
    torch.set_num_threads(threads)
    return build_encoder(shape.spec, seed=0).eval().to(device)


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def write_images(folder: Path, count: int, size: int) -> None:
    """Random JPEG files in two classes."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 2}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size)).save(path)


def run_child(arguments: argparse.Namespace, *child: str) -> list[dict]:
    """The rows that a process of its own measures; NumPy is held to as many threads as torch."""
    names = ("threads", "repeats", "device")
    options = [f"--{name}={getattr(arguments, name)}" for name in names]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(arguments.threads))
    command = [sys.executable, __file__, *options, "--child", *child]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | limits)
    if done.returncode:
        raise UserError(f"the measurement of {' '.join(child)} failed; its message stands above")
    return json.loads(done.stdout.splitlines()[-1])


def measure_shape(arguments: argparse.Namespace, name: str) -> pd.DataFrame:
    """All rows of one shape, with its settings and the head of every row."""
    shape = SHAPES[name]
    rows = [{"measure": "speed"} | row for row in run_child(arguments, "speed", name)]
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), max(arguments.images), shape.spec.image_size)
        for way, count in itertools.product(("streaming", "plain"), sorted(arguments.images)):
            if way == "plain" and count > shape.plain_limit:
                print(f"{name}: {count} images are too many for the plain way; left out", file=sys.stderr)
                continue
            found = run_child(arguments, way, name, str(count), folder)
            rows += [{"measure": "memory", "way": way} | row for row in found]
    spec = shape.spec.to_dict()
    head = row_head(
        study="bench", config_hash=sha256_json(spec), data_hash="random", device=torch.device(arguments.device)
    )
    settings = {key: spec[key] for key in ("image_size", "patch_size", "width", "depth", "heads")}
    settings |= {"batch_size": shape.batch, "threads": arguments.threads, "repeats": arguments.repeats}
    return with_head(pd.DataFrame(rows).assign(encoder=name, **settings), head)


def main(arguments: argparse.Namespace) -> None:
    """Measure every shape, or, in a child, one thing of one shape."""
    if arguments.child:
        what, name, *rest = arguments.child
        shape, threads, device = SHAPES[name], arguments.threads, arguments.device
        if what == "speed":
            rows = measure_speed(shape, threads, arguments.repeats, device)
        else:
            rows = measure_memory(what, shape, int(rest[0]), Path(rest[1]), threads, device)
        print(json.dumps(rows))
        return
    table = pd.concat([measure_shape(arguments, name) for name in arguments.shapes], ignore_index=True)
    columns = ["encoder", "measure", "way", "images", "peak_mib", "added_mib", "images_per_second"]
    columns += ["of_fused", "of_plain"]
    print(table[columns].to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if arguments.output:
        write_table(arguments.output, table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--images", type=int, nargs="+", default=[64, 512], help="for the memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="CSV of the rows, with the machine and the versions")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
