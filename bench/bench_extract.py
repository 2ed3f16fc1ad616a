"""Does the memory of the extraction grow with the number of images, and what does looking inside cost?

    python bench/bench_extract.py --images 64 512 2048 --output bench_extract.csv

Memory: peak resident set, and what the work added to it, of a process of its own for each number of images; for the
streaming pass (decoding included) and for the plain way: keep all maps, then reduce them one by one with NumPy.
Speed: images per second of the same two on pixels at hand, beside the fused forward pass that forms no maps at all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from cl_vs_mim.analysis.extract import attention_values
from cl_vs_mim.analysis.streaming import attention_metrics, stream
from cl_vs_mim.analysis.subject import batches
from cl_vs_mim.artifacts import row_head, sha256_json, with_head, write_table
from cl_vs_mim.data.images import index_image_folder, normalise
from cl_vs_mim.encoder import Encoder, EncoderSpec, build_encoder
from cl_vs_mim.errors import run_cli

# ------------------------------------------------------------------------------------------------
# The plain way
# ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def store_maps(encoder: Encoder, images: Iterable[Tensor], count: int) -> np.ndarray:
    """(M, L, H, 1+N, 1+N): every map of every image."""
    spec, device = encoder.spec, next(encoder.parameters()).device
    tokens = 1 + spec.grid**2
    maps = np.empty((count, spec.depth, spec.heads, tokens, tokens), dtype=np.float32)
    done = 0
    for batch in images:
        for block, attention in enumerate(encoder.attentions(normalise(batch.to(device)))):
            maps[done : done + len(batch), block] = attention.cpu().numpy()
        done += len(batch)
    return maps


def reduce_maps(maps: np.ndarray, patch_size: int) -> np.ndarray:
    """(M, L, H, 3): distance, NMI and entropy, one map at a time."""
    grid = int(np.sqrt(maps.shape[-1] - 1))
    places = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), -1).reshape(-1, 2) * patch_size
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    values = np.empty((*maps.shape[:3], 3))
    for place in np.ndindex(*maps.shape[:3]):
        rows = maps[place][1:, 1:].astype(np.float64) + 1e-8
        rows /= rows.sum(1, keepdims=True)
        joint = rows / len(rows)
        marginal = joint.sum(0)
        information = (joint * np.log(rows / marginal)).sum()
        entropy = -(marginal * np.log(marginal)).sum()
        values[place] = (
            (rows * distances).sum(1).mean(),
            information / np.sqrt(np.log(len(rows)) * entropy),
            -(rows * np.log(rows)).sum(1).mean() / np.log(len(rows)),
        )
    return values


# ------------------------------------------------------------------------------------------------
# Memory: one process for each number of images
# ------------------------------------------------------------------------------------------------


def write_images(folder: Path, count: int, size: int) -> None:
    """Random JPEG files in two classes."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 2}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size)).save(path)


def measure_memory(way: str, count: int, folder: Path, arguments: argparse.Namespace) -> None:
    """The child: do the work once and print the peak of this process."""
    encoder = _encoder(arguments)
    index = index_image_folder(folder)
    positions = np.arange(count)
    images = batches(index, positions, arguments.image_size, 1.0, arguments.batch_size, arguments.threads)
    before = _memory("VmRSS")
    start = time.perf_counter()
    if way == "streaming":
        attention_values(encoder, images, [index.paths[i] for i in positions], way)
    else:
        reduce_maps(store_maps(encoder, images, count), arguments.patch_size)
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM")
    print(json.dumps({"peak_mib": peak, "added_mib": peak - before, "images_per_second": count / seconds}))


def _memory(field: str) -> float:
    """Resident set (VmRSS) or its peak (VmHWM) of this process in MiB. ``ru_maxrss`` would include the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def run_child(way: str, count: int, folder: Path, options: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, *options, "--child", way, str(count), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------------------------------------
# Speed: one process, pixels at hand
# ------------------------------------------------------------------------------------------------


def measure_speed(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Images per second of the fused forward pass, the streaming pass and the plain way, medians of the repeats."""
    encoder = _encoder(arguments)
    shape = (arguments.batch_size, 3, arguments.image_size, arguments.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    device = next(encoder.parameters()).device

    @torch.inference_mode()
    def fused() -> None:
        encoder(normalise(images.to(device))).cpu()

    @torch.inference_mode()
    def traced() -> None:
        for _ in encoder.trace(encoder.embed(normalise(images.to(device)))):
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()

    def streaming() -> None:
        metrics = attention_metrics(arguments.patch_size)
        list(stream(encoder, [images], metrics))
        for metric in metrics:
            metric.result()

    def plain() -> None:
        reduce_maps(store_maps(encoder, [images], len(images)), arguments.patch_size)

    rates = {way.__name__: _rate(way, len(images), arguments.repeats) for way in (fused, traced, streaming, plain)}
    return [
        {
            "measure": "speed",
            "way": way,
            "images": len(images),
            "images_per_second": rate,
            "of_fused": rate / rates["fused"],
            "of_plain": rate / rates["plain"],
        }
        for way, rate in rates.items()
    ]


def _rate(work: Callable[[], None], count: int, repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return count / statistics.median(seconds)


def _encoder(arguments: argparse.Namespace) -> Encoder:
    torch.set_num_threads(arguments.threads)
    return build_encoder(_spec(arguments), seed=0).eval().to(arguments.device)


def _spec(arguments: argparse.Namespace) -> EncoderSpec:
    names = ("image_size", "patch_size", "width", "depth", "heads")
    return EncoderSpec("vit", **{name: getattr(arguments, name) for name in names})


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    if arguments.child:
        way, count, folder = arguments.child
        measure_memory(way, int(count), Path(folder), arguments)
        return
    rows = measure_speed(arguments)
    options = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in _SHARED]
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), max(arguments.images), arguments.image_size)
        for way in ("streaming", "plain"):
            for count in sorted(arguments.images):
                rows.append({"measure": "memory", "way": way, "images": count} | run_child(way, count, folder, options))
    device = torch.device(arguments.device)
    settings = sha256_json(asdict(_spec(arguments)))
    head = row_head(study="bench", config_hash=settings, data_hash="random", device=device)
    shared = {name: getattr(arguments, name) for name in _SHARED if name != "device"}
    table = pd.DataFrame(rows).assign(**shared)
    columns = ["measure", "way", "images", "peak_mib", "added_mib", "images_per_second", "of_fused", "of_plain"]
    print(table[columns].to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if arguments.output:
        write_table(arguments.output, with_head(table, head))


_SHARED = ("image_size", "patch_size", "width", "depth", "heads", "batch_size", "threads", "repeats", "device")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[64, 512, 2048], help="for the memory")
    for name, value in zip(_SHARED[:-1], (96, 8, 192, 6, 3, 32, 1, 5), strict=True):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="CSV of the rows, with the machine and the versions")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
