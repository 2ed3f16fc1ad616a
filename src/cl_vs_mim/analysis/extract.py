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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cl_vs_mim.analysis.queries import choose_queries
from cl_vs_mim.analysis.streaming import attention_metrics, stream
from cl_vs_mim.analysis.subject import (
    add_subject_arguments,
    analysis_images,
    batches,
    choose_device,
    data_hash,
    find_subject,
    open_encoder,
    table_head,
)
from cl_vs_mim.analysis.tables import maps_table, pixels_table, values_table, with_columns
from cl_vs_mim.artifacts import HEAD, write_table
from cl_vs_mim.config import block_index, load_study
from cl_vs_mim.data.images import decode_many
from cl_vs_mim.encoder import Encoder
from cl_vs_mim.errors import UserError, run_cli
from cl_vs_mim.progress import progress

# ------------------------------------------------------------------------------------------------
# The pass
# ------------------------------------------------------------------------------------------------


def attention_values(encoder: Encoder, images: Iterator[Tensor], names: list[str], label: str) -> dict[str, np.ndarray]:
    """Every metric's (M, L, H) values of the images called ``names``.

    Raises:
        UserError: a value is not finite; metric, image and depth are named.
    """
    metrics = attention_metrics(encoder.spec.patch_size)
    try:
        with progress(total=len(names), desc=f"extract {label}", unit="image") as bar:
            for count in stream(encoder, images, metrics):
                bar.update(count)
    except FloatingPointError as error:
        metric, image, depth = error.args
        raise UserError(
            f"{label}: {metric} of image {names[image]} is not finite at depth {depth:g}; "
            "the encoder has diverged, train it again"
        ) from error
    return {metric.name: metric.result() for metric in metrics}


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    study = load_study(arguments.config)
    subject = find_subject(study, arguments.model, arguments.seed)
    architecture = study.architectures[subject.architecture]
    encoder = open_encoder(subject, architecture, arguments.encoder).to(device)
    content = data_hash(arguments.data)
    size, crop = architecture.image_size, study.analysis.crop_fraction

    index, positions, names = analysis_images(study, arguments.data)
    images = batches(index, positions, size, crop, study.analysis.batch_size, workers=arguments.threads)
    values = attention_values(encoder, images, names, f"{subject.model} seed {subject.seed}")

    figure = study.figures.attention_maps
    chosen = names[figure.image]
    queries = choose_queries(
        figure.queries, data=arguments.data, image=chosen, size=size, grid=encoder.spec.grid, crop_fraction=crop
    )
    pixels = decode_many(index, positions[[figure.image]], size, crop_fraction=crop)[0]
    maps = maps_table(encoder, pixels, block_index(figure.block, encoder.spec.depth), queries)

    shape = {"grid": encoder.spec.grid, "patch_size": encoder.spec.patch_size}
    measured = table_head(study, subject, content, device, {}) | shape
    drawn = table_head(study, subject, content, device, {"figure": figure}) | {"image": chosen} | shape
    picture = {name: drawn[name] for name in (*HEAD, "image", *shape)}
    write_table(arguments.maps, with_columns(maps, drawn))
    write_table(arguments.image, with_columns(pixels_table(pixels), picture))
    write_table(arguments.output, with_columns(values_table(values, names), measured))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the attention maps of one encoder; write tidy tables.")
    add_subject_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, help="table of metrics, .parquet or .csv")
    parser.add_argument("--maps", type=Path, required=True, help="table of the maps of Figure 2")
    parser.add_argument("--image", type=Path, required=True, help="table of the pixels of Figure 2's image")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
