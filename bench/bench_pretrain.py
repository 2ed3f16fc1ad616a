"""Speed of pre-training: our loop against a plain one in the same run, and where our step's time goes.

    python bench/bench_pretrain.py --threads 2 --output results/bench/pretrain.csv

The ways take turns, an epoch of a few steps each, so that other load on the machine meets all; rates are medians over
the turns. Images per CPU second, workers included, say what a way costs, whatever else runs. On a CPU the parts of what
makes our loop fast are taken away one by one: the measured precision, attention as products, memory that stays with the
process. Utilisation is the plain network's matrix products, counted by torch, over what the device does in one large
matrix product, in bfloat16 on a GPU and in float32 on a CPU. Memory and larger batches are measured in processes of
their own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from cl_vs_mim.config import Architecture, Model, load_study
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.tables import row_head, with_head, write_table
from cl_vs_mim.data.images import index_image_folder
from cl_vs_mim.pretrain import loop
from cl_vs_mim.pretrain.memory import keep_freed_memory
from cl_vs_mim.pretrain.precision import EXACT, MIXED, faster, is_open, make_fabric, measure_precisions, precision_of
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.pretrain.sources import make_source
from cl_vs_mim.pretrain.trainer import Trainer
from plain_pretrain import PlainLoop

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
PARTS = ("augment", "forward", "backward", "optimizer", "ema")
# Shapes of the goals beside the study's own. The heads of the methods stay those of the study's YAML.
SHAPES = {
    "study": {},
    "48 px": {"image_size": 48, "patch_size": 8, "width": 64, "depth": 6, "heads": 4},
    "ViT-Ti 96 px": {"image_size": 96, "patch_size": 8, "width": 192, "depth": 12, "heads": 3},
    "ViT-B 224 px": {"image_size": 224, "patch_size": 16, "width": 768, "depth": 12, "heads": 12},
}


# Our loop with something taken away: changes of the training, and what of OurLoop's options. CPUs only.
BEFORE = "float32, memory given back"
WITHOUT = {
    "bfloat16, fused attention": ({"precision": MIXED}, {"fused": True}),
    "float32": ({"precision": EXACT}, {}),
    BEFORE: ({"precision": EXACT}, {"kept": False}),
}


class OurLoop:
    """The trainer of :mod:`cl_vs_mim.pretrain.loop` itself, its parts wrapped with clocks.

    Args:
        model: its precision ``auto`` is decided as the loop does.
        architecture: of the encoder.
        folder: ImageFolder.
        device: ``auto``, ``cpu`` or ``cuda``.
        fused: whether attention stays fused in every precision.
        kept: whether freed memory stays with the process.
    """

    def __init__(
        self,
        model: Model,
        architecture: Architecture,
        folder: Path,
        device: str,
        fused: bool = False,
        kept: bool = True,
    ) -> None:
        self.kept = kept
        self.fabric = make_fabric(device, model.training.precision)
        self.fabric.launch()
        index = index_image_folder(folder)
        self.batch = model.training.batch_size
        self.steps = len(index) // self.batch
        objective = build_objective(model, architecture, 0)
        if is_open(self.fabric, model.training.precision):
            keep_freed_memory()
            self.fabric = make_fabric(
                device, faster(measure_precisions(objective, model.training, architecture.image_size))
            )
            self.fabric.launch()
        self.precision = precision_of(self.fabric)
        self.trainer = Trainer(objective, model.training, architecture.image_size, 0, self.steps, self.fabric)
        for part in objective.modules() if fused else ():
            if hasattr(part, "fused_attn"):
                part.fused_attn = True
        source = make_source(index, index.labels, "memory", self.trainer.plan(), self.fabric.device, 1)
        self.source, self.seconds = source, defaultdict(float)
        objective, optimizer = self.trainer.objective, self.trainer.optimizer
        source.batch = self._clocked("augment", source.batch)
        objective.forward = self._clocked("forward", objective.forward)
        objective.before_step = self._clocked("ema", objective.before_step)
        self.fabric.backward = self._clocked("backward", self.fabric.backward)
        optimizer.step = self._clocked("optimizer", optimizer.step)

    def _clocked(self, part: str, function: Callable) -> Callable:
        def call(*arguments, **options):
            self._wait()
            start = time.perf_counter()
            result = function(*arguments, **options)
            self._wait()
            self.seconds[part] += time.perf_counter() - start
            return result

        return call

    def _wait(self) -> None:
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()

    def images_per_second(self) -> float:
        """Over as many steps as the plain loop is timed for; the step's number starts again every time."""
        self.trainer.step = 0
        keep_freed_memory() if self.kept else give_memory_back()
        with loop.deterministic_on_cpu(self.fabric.device):
            start = time.perf_counter()
            for _ in range(max(1, self.steps - 1)):
                self.trainer.run_step(self.source)
            self._wait()
            return max(1, self.steps - 1) * self.batch / (time.perf_counter() - start)


def give_memory_back() -> None:
    """Undo :func:`keep_freed_memory`: glibc's limits as they are after large blocks have been freed (mallopt(3))."""
    libc = ctypes.CDLL(None)
    for option, value in ((_M_MMAP_MAX, 2**16), (_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**26)):
        libc.mallopt(option, value)
    libc.malloc_trim(0)


# ------------------------------------------------------------------------------------------------
# Measurements
# ------------------------------------------------------------------------------------------------


def write_images(folder: Path, count: int, size: int) -> Path:
    """Random smooth JPEG files in two classes."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 2}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size)).save(path, quality=93)
    return folder


def peak_flops(device: torch.device) -> float:
    """Multiplications and additions a second in a large square product: bfloat16 on a GPU, float32 on a CPU."""
    side, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (2048, torch.float32)
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def compare(model: Model, architecture: Architecture, arguments: argparse.Namespace) -> list[dict]:
    """Rows of one model: the plain loop, ours, ours compiled, and on a CPU ours without this and that."""
    device = make_fabric(arguments.device, "32-true").device
    compiled = model.model_copy(update={"training": model.training.model_copy(update={"compile": True})})
    rows, ours = [], {}
    with tempfile.TemporaryDirectory() as place:
        folder = write_images(Path(place), model.training.batch_size * arguments.steps, architecture.image_size)
        plain = PlainLoop(model, architecture, folder, device, arguments.threads)
        ours["ours"] = OurLoop(model, architecture, folder, arguments.device)
        with contextlib.suppress(UserError):  # no compiler here
            ours["ours, compiled"] = OurLoop(compiled, architecture, folder, arguments.device)
        for name, (changes, options) in WITHOUT.items() if device.type == "cpu" else ():
            less = model.model_copy(update={"training": model.training.model_copy(update=changes)})
            ours[name] = OurLoop(less, architecture, folder, arguments.device, **options)
        ways = {"plain": plain, **ours}
        for way in ways.values():
            way.images_per_second()  # warms up
        for way in ours.values():
            way.seconds.clear()
        rates, thrifts = defaultdict(list), defaultdict(list)
        for _ in range(arguments.turns):
            for name, way in ways.items():
                if way is plain and device.type == "cpu":
                    give_memory_back()
                start = cpu_seconds()
                rates[name].append(way.images_per_second())
                images = model.training.batch_size * (arguments.steps if way is plain else way.steps - 1)
                thrifts[name].append(images / (cpu_seconds() - start))
        flops, peak = plain.flops_per_image(), peak_flops(device)
        for name, found in rates.items():
            rate = statistics.median(found)
            row = {
                "measure": "speed",
                "way": name,
                "batch_size": model.training.batch_size,
                "images_per_second": rate,
                "of_plain": ratio(found, rates["plain"]),
                "of_before": ratio(found, rates[BEFORE]) if BEFORE in rates else None,
                "images_per_cpu_second": statistics.median(thrifts[name]),
                "cpu_of_plain": ratio(thrifts[name], thrifts["plain"]),
                "cpu_of_before": ratio(thrifts[name], thrifts[BEFORE]) if BEFORE in rates else None,
                "gflops_per_image": flops / 1e9,
                "of_peak": rate * flops / peak,
            }
            if name in ours:
                row["precision"] = ours[name].precision
                seconds = ours[name].seconds
                total = sum(ours[name].batch * (ours[name].steps - 1) / one for one in found)
                row |= {f"share_{part}": seconds[part] / total for part in PARTS}
                row["share_rest"] = 1 - sum(seconds[part] for part in PARTS) / total
            rows.append(row)
        del plain.loader  # ends its workers
    return rows


def cpu_seconds() -> float:
    """CPU time so far, of this process and of the workers it has running (Linux alone knows theirs)."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # utime and stime of proc_pid_stat(5)
    return total


def ratio(rates: list[float], others: list[float]) -> float:
    """The median over the turns of the ratio within a turn: load that comes and goes meets both."""
    return statistics.median(one / other for one, other in zip(rates, others, strict=True))


def measure_batch(model: Model, architecture: Architecture, batch: int, device: str) -> list[dict]:
    """Rate and memory of our loop at one batch size, in a process that does nothing else."""
    training = model.training.model_copy(update={"batch_size": batch})
    with tempfile.TemporaryDirectory() as place:
        folder = write_images(Path(place), 3 * batch, architecture.image_size)
        ours = OurLoop(model.model_copy(update={"training": training}), architecture, folder, device)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ours.images_per_second()
        rate = ours.images_per_second()
    row = {"measure": "batch", "way": "ours", "batch_size": batch, "images_per_second": rate}
    if ours.fabric.device.type == "cuda":
        row["added_mib"] = torch.cuda.max_memory_allocated() / 2**20
    else:
        row["added_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return [row]


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def in_any_precision(model: Model) -> Model:
    """The model with the precision ``auto``, whatever its study says."""
    return model.model_copy(update={"training": model.training.model_copy(update={"precision": "auto"})})


def in_child(arguments: argparse.Namespace, *what: str) -> list[dict]:
    """The rows that a process of its own measures; none where a batch does not fit."""
    names = ("config", "device", "threads", "steps", "turns")
    options = [f"--{name}={getattr(arguments, name)}" for name in names]
    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(
        [sys.executable, __file__, *options, "--child", *what],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | threads,
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if what[0] == "batch":
        print(f"{' '.join(what)}: does not fit (status {done.returncode})", file=sys.stderr)
        return []
    raise UserError(f"the measurement of {' '.join(what)} failed; its message stands above")


def main(arguments: argparse.Namespace) -> None:
    """Measure every model at every shape, or, in a child, one thing."""
    torch.set_num_threads(arguments.threads)
    study = load_study(arguments.config)
    device = make_fabric(arguments.device, "32-true").device
    if arguments.child:
        what, shape, name, *rest = arguments.child
        model = in_any_precision(study.models[name])
        architecture = study.architectures[model.architecture].model_copy(update=SHAPES[shape])
        if what == "speed":
            rows = compare(model, architecture, arguments)
        else:
            rows = measure_batch(model, architecture, int(rest[0]), arguments.device)
        print(json.dumps(rows))
        return
    tables = []
    for shape, name in tqdm([(shape, name) for shape in arguments.shapes for name in arguments.models], unit="case"):
        rows = in_child(arguments, "speed", shape, name)
        for batch in arguments.batches:
            rows += in_child(arguments, "batch", shape, name, str(batch))
        model = in_any_precision(study.models[name])
        architecture = study.architectures[model.architecture].model_copy(update=SHAPES[shape])
        label = architecture.label if shape == "study" else shape
        head = row_head(study=study.study, config_hash=model.digest(), data_hash="random", device=device)
        settings = {"shape": label, "image_size": architecture.image_size, "threads": arguments.threads}
        table = pd.DataFrame(rows).assign(model=name, **settings, steps=arguments.steps, turns=arguments.turns)
        tables.append(with_head(table, head))
    table = pd.concat(tables, ignore_index=True)
    if arguments.output is not None:
        write_table(arguments.output, table)
    columns = ["shape", "model", "way", "batch_size", "images_per_second", "of_plain", "of_before"]
    columns += ["images_per_cpu_second", "cpu_of_plain", "cpu_of_before"]
    shown = table.reindex(columns=[*columns, "added_mib"])
    print(shown.to_string(index=False, float_format="{:.2f}".format, na_rep=""))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/quick.yaml"))
    parser.add_argument("--models", nargs="+", default=["moco_v3", "simmim", "mae"])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["study"])
    parser.add_argument("--batches", type=int, nargs="*", default=[64, 256, 1024], help="for memory and scaling")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="steps of an epoch")
    parser.add_argument("--turns", type=int, default=5, help="epochs of each way")
    parser.add_argument("--output", type=Path, help=".csv")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
