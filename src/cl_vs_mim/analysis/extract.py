"""One pass of one encoder over the analysis images, for all attention metrics: tidy tables out.

    python -m cl_vs_mim.analysis.extract --config config/demo.yaml --model moco_v3 --seed 0 \\
        --encoder results/demo/encoders/moco_v3_seed0.safetensors --data results/demo/data/objects \\
        --output attention.parquet --maps attention_maps.parquet --image attention_image.parquet

Three tables, each with the head of every row (:data:`cl_vs_mim.artifacts.HEAD`):

``--output``  a row per metric, image, depth (1 … L) and head (0 … H-1): Figures 3 and 4.
``--maps``    a row per head (-1: the mean over heads), query (0 on the object, 1 off it) and key patch, of the image
              and block that the study names: Figure 2.
``--image``   a row per pixel of that image as the encoder saw it.

An untrained encoder (``--model untrained_<architecture>``) is drawn from the seed and takes no ``--encoder``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.analysis.queries import choose_queries
from cl_vs_mim.analysis.streaming import attention_metrics, stream
from cl_vs_mim.analysis.tables import maps_table, pixels_table, values_table, with_columns
from cl_vs_mim.artifacts import row_head, sha256_json, write_table
from cl_vs_mim.checkpoints import load_encoder, read_header
from cl_vs_mim.config import Architecture, Study, load_study
from cl_vs_mim.data.images import ImageFolderIndex, decode_many, index_image_folder, select_evenly
from cl_vs_mim.encoder import Encoder, build_encoder
from cl_vs_mim.errors import UserError, run_cli
from cl_vs_mim.progress import progress

_SPLIT = "val"

# ------------------------------------------------------------------------------------------------
# What is measured
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """An encoder's columns in every table."""

    model: str  # key in the study, or untrained_<architecture>
    label: str  # as written in figures
    method: str  # moco_v3, simmim … or untrained
    paradigm: str  # cl, mim or control
    architecture: str  # key in the study
    seed: int


def find_subject(study: Study, model: str, seed: int) -> Subject:
    """The model or control of this name.

    Raises:
        UserError: the study has neither.
    """
    controls = study.controls()
    if model in controls:
        label = f"untrained {study.architectures[controls[model]].label}"
        return Subject(model, label, "untrained", "control", controls[model], seed)
    if model not in study.models:
        known = ", ".join([*study.models, *controls])
        raise UserError(f"study {study.study!r} has no model {model!r}; known: {known}")
    found = study.models[model]
    return Subject(model, found.label, found.objective.method, found.paradigm, found.architecture, seed)


def open_encoder(subject: Subject, architecture: Architecture, path: Path | None) -> Encoder:
    """The trained encoder of the file, or the untrained one of the seed, in evaluation mode.

    Raises:
        UserError: a trained model without a file or a control with one; a file of another architecture, model or seed.
    """
    if subject.paradigm == "control":
        if path is not None:
            raise UserError(f"{subject.model} is untrained and drawn from its seed; leave out --encoder {path}")
        return build_encoder(architecture.spec(), subject.seed).eval()
    if path is None:
        raise UserError(f"{subject.model} is a trained model; give its file with --encoder")
    encoder = load_encoder(path, "native")
    wanted, found = architecture.spec().to_dict(), encoder.spec.to_dict()
    differences = [
        f"{name} {found[name]} instead of {wanted[name]}"
        for name in wanted
        if name != "drop_path" and found[name] != wanted[name]  # of training only
    ]
    if differences:
        raise UserError(
            f"{path} is not of architecture {subject.architecture!r}: {', '.join(differences)}; train it again"
        )
    _, provenance = read_header(path)
    for name in ("model", "seed"):
        stated = provenance.get(name)
        if isinstance(stated, str | int) and stated != getattr(subject, name):
            raise UserError(f"{path} states {name} {stated!r}, but {getattr(subject, name)!r} was asked for")
    return encoder


def data_hash(data: Path) -> str:
    """What the composer calls the content of a data set.

    Raises:
        UserError: there is no finished data set.
    """
    path = data / "manifest.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["data_hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged: {data} is not a finished data set; build it again") from error


# ------------------------------------------------------------------------------------------------
# The pass
# ------------------------------------------------------------------------------------------------


def batches(
    index: ImageFolderIndex, positions: np.ndarray, size: int, crop_fraction: float, batch_size: int, workers: int
) -> Iterator[Tensor]:
    """(B, 3, size, size) uint8, the next batch being decoded while this one is used."""

    def decoded(start: int) -> Tensor:
        chunk = positions[start : start + batch_size]
        return decode_many(index, chunk, size, crop_fraction=crop_fraction, workers=workers)

    with ThreadPoolExecutor(1) as pool:
        starts = range(0, len(positions), batch_size)
        ahead = pool.submit(decoded, 0)
        for start in starts:
            current = ahead.result()
            if start + batch_size < len(positions):
                ahead = pool.submit(decoded, start + batch_size)
            yield current


def attention_values(encoder: Encoder, images: Iterator[Tensor], names: list[str], label: str) -> dict[str, np.ndarray]:
    """Every metric's (M, L, H) values of the images called ``names``.

    Raises:
        UserError: a value is not finite; metric, image, block and head are named.
    """
    metrics = attention_metrics(encoder.spec.patch_size)
    try:
        with progress(total=len(names), desc=f"extract {label}", unit="image") as bar:
            for count in stream(encoder, images, metrics):
                bar.update(count)
    except FloatingPointError as error:
        metric, image, block, head = error.args
        raise UserError(
            f"{label}: {metric} of image {names[image]} is not finite at depth {block + 1}, head {head}; "
            "the encoder has diverged, train it again"
        ) from error
    return {metric.name: metric.result() for metric in metrics}


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    device = _device(arguments.device)
    study = load_study(arguments.config)
    subject = find_subject(study, arguments.model, arguments.seed)
    architecture = study.architectures[subject.architecture]
    encoder = open_encoder(subject, architecture, arguments.encoder).to(device)
    content = data_hash(arguments.data)
    size, crop = architecture.image_size, study.analysis.crop_fraction

    index = index_image_folder(arguments.data / _SPLIT)
    positions = select_evenly(index.labels, study.analysis.images, study.analysis.seed)
    names = [f"{_SPLIT}/{index.paths[position]}" for position in positions]
    images = batches(index, positions, size, crop, study.analysis.batch_size, workers=arguments.threads)
    values = attention_values(encoder, images, names, f"{subject.model} seed {subject.seed}")

    figure = study.figures.attention_maps
    chosen = names[figure.image]
    queries = choose_queries(
        figure.queries, data=arguments.data, image=chosen, size=size, grid=encoder.spec.grid, crop_fraction=crop
    )
    pixels = decode_many(index, positions[[figure.image]], size, crop_fraction=crop)[0]
    block = figure.block - 1 if figure.block > 0 else encoder.spec.depth + figure.block
    maps = maps_table(encoder, pixels, block, queries)

    model = study.models.get(subject.model)
    sections = {"architecture": architecture, "model": model, "analysis": study.analysis, "data": study.data}
    settings = {name: None if section is None else section.digest() for name, section in sections.items()}
    head = dict(study=study.study, data_hash=content, device=device)
    measured = row_head(config_hash=sha256_json(settings), **head)
    drawn = row_head(config_hash=sha256_json(settings | {"figure": figure.digest()}), **head)
    shape = {"grid": encoder.spec.grid, "patch_size": encoder.spec.patch_size}
    constants = asdict(subject)
    write_table(arguments.maps, with_columns(maps, drawn | constants | {"image": chosen} | shape))
    write_table(arguments.image, with_columns(pixels_table(pixels), drawn | {"image": chosen} | shape))
    write_table(arguments.output, with_columns(values_table(values, names), measured | constants | shape))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: no CUDA device is at hand; use --device cpu")
    return device


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the attention maps of one encoder; write tidy tables.")
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML")
    parser.add_argument("--model", required=True, help="a model of the study, or untrained_<architecture>")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--encoder", type=Path, help="native checkpoint; not for untrained_…")
    parser.add_argument("--data", type=Path, required=True, help="folder of the single-object images")
    parser.add_argument("--output", type=Path, required=True, help="table of metrics, .parquet or .csv")
    parser.add_argument("--maps", type=Path, required=True, help="table of the maps of Figure 2")
    parser.add_argument("--image", type=Path, required=True, help="table of the pixels of Figure 2's image")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for decoding and for the encoder")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
