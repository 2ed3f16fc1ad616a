"""One pass of one encoder over the analysis images, for every metric of Figures 2 to 8: tidy tables out.

    python -m cl_vs_mim.analysis.extract --config config/demo.yaml --model moco_v3 --seed 0 \\
        --encoder results/demo/encoders/moco_v3_seed0.safetensors --data results/demo/data/objects \\
        --tables results/demo/tables --run moco_v3_seed0

writes ``<tables>/<kind>/<run>.parquet`` for every kind of :data:`KINDS`, each row with its head
(:data:`cl_vs_mim.core.tables.HEAD`), the encoder's columns, ``grid`` and ``patch_size``, and then

``attention``        metric, image, depth (1 … L), head: Figures 3 and 4.
``attention_maps``   depth, head (-1: the mean), query (0 on the object, 1 off it), key patch; one image: Figure 2.
``attention_image``  a row per pixel of that image as the encoder saw it.
``diversity``        metric, image, depth, head (-1: of all heads): Figure 5.
``movement``         metric, image, depth: the numbers behind Figure 6.
``movement_tokens``  panel, image, before or after, token: coordinates of Figure 6.
``token_spectrum``   image, depth (0 … L), rank (1 … R): Figure 7.
``image_spectrum``   depth, rank, with its interval over images: Figure 7.
``fourier``          image, depth (0, 0.5 … L), frequency (units of pi): Figure 8.

An untrained encoder (``--model untrained_<architecture>``) is drawn from the seed and takes no ``--encoder``.

``--grid 8`` measures it on images of 8 x 8 patches instead of its own, with positions resampled, and writes the tables
of :data:`MEASURED` only, to ``<tables>/grid8/<kind>/<run>.parquet``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.analysis.metrics import AllMetrics
from cl_vs_mim.analysis.movement import centroid_separation, movement_tokens_table
from cl_vs_mim.analysis.queries import choose_queries
from cl_vs_mim.analysis.streaming import stream
from cl_vs_mim.analysis.tables import maps_table, metrics_table, pixels_table, values_table
from cl_vs_mim.config import Study, block_index, load_study
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import HEAD, with_columns, write_table
from cl_vs_mim.data.images import decode_many
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.resize import at_grid
from cl_vs_mim.evaluated import (
    add_subject_arguments,
    analysis_images,
    batches,
    choose_device,
    data_hash,
    find_encoder,
    open_encoder,
    table_head,
)
from cl_vs_mim.metrics.fourier import frequencies
from cl_vs_mim.metrics.spectrum import bootstrap_image_spectrum

KINDS = (
    "attention",
    "attention_maps",
    "attention_image",
    "diversity",
    "movement",
    "movement_tokens",
    "token_spectrum",
    "image_spectrum",
    "fourier",
)

MEASURED = ("attention", "diversity", "movement", "token_spectrum", "image_spectrum", "fourier")

# ------------------------------------------------------------------------------------------------
# The pass
# ------------------------------------------------------------------------------------------------


def measure(encoder: Encoder, images: Iterator[Tensor], names: list[str], label: str) -> AllMetrics:
    """Every metric of the images called ``names``.

    Raises:
        UserError: a value is not finite; metric, image and depth are named.
    """
    metrics = AllMetrics(encoder.spec)
    try:
        with progress(total=len(names), desc=f"extract {label}", unit="image") as bar:
            for count in stream(encoder, images, list(metrics)):
                bar.update(count)
    except FloatingPointError as error:
        metric, image, depth = error.args
        raise UserError(
            f"{label}: {metric} of image {names[image]} is not finite at depth {depth:g}; "
            "the encoder has diverged, train it again"
        ) from error
    return metrics


def measured_tables(metrics: AllMetrics, names: list[str], grid: int, study: Study) -> dict[str, pd.DataFrame]:
    """The tables of the pass, by kind, without their heads."""
    spectrum, fourier, means = metrics.token_spectrum, metrics.fourier, metrics.token_mean
    singular_values, amplitudes = spectrum.result(), fourier.result()
    ranks = np.arange(1, singular_values.shape[-1] + 1, dtype=np.int32)
    return {
        "attention": metrics_table(metrics.attention, names),
        "diversity": metrics_table(metrics.diversity, names),
        "movement": _movement_table(metrics, names),
        "token_spectrum": values_table(singular_values, names, spectrum.depths(), "rank", ranks),
        "image_spectrum": _image_spectrum_table(means.result()[:, ::2], study),
        "fourier": values_table(amplitudes, names, fourier.depths(), "frequency", frequencies(grid).numpy()),
    }


def _movement_table(metrics: AllMetrics, names: list[str]) -> pd.DataFrame:
    means, spreads = metrics.token_mean.result(), metrics.within_spread.result()  # (M, S, D), (M, S)
    separation = np.stack(
        [centroid_separation(means[:, place], spreads[:, place]) for place in range(means.shape[1])], axis=1
    )
    values = {
        "displacement_variation": (metrics.displacement.result(), metrics.displacement.depths()),
        "centroid_separation": (separation, metrics.within_spread.depths()),
    }
    frames = []
    for metric, (array, depths) in values.items():
        label = pd.Categorical([metric] * array.size, categories=list(values))
        frames.append(values_table(array, names, depths).assign(metric=label))
    return pd.concat(frames, ignore_index=True)


def _image_spectrum_table(means: np.ndarray, study: Study) -> pd.DataFrame:
    """Rows of depth and rank from (M, 1+L, D)."""
    settings, bootstrap = study.analysis.spectrum, study.figures.bootstrap
    frames = []
    for depth in range(means.shape[1]):
        value, low, high = bootstrap_image_spectrum(
            torch.from_numpy(means[:, depth]),
            level=bootstrap.level,
            resamples=settings.resamples,
            seed=bootstrap.seed,
        )
        rank = np.arange(1, len(value) + 1, dtype=np.int32)
        frames.append(pd.DataFrame({"depth": float(depth), "rank": rank, "value": value, "low": low, "high": high}))
    return pd.concat(frames, ignore_index=True).assign(images=np.int32(len(means)))


def drawn_tables(
    encoder: Encoder,
    pixels_of: Callable[[list[int]], Tensor],
    names: list[str],
    queries: Sequence[tuple[int, int]],
    study: Study,
) -> dict[str, pd.DataFrame]:
    """The tables of Figures 2 and 6, of a few images, by kind, without their heads.

    Args:
        encoder: whose.
        pixels_of: analysed images by their indices, (B, 3, S, S) uint8.
        names: of the analysed images.
        queries: patches of Figure 2, (row, column).
        study: which images and blocks.
    """
    movement, pair = study.analysis.movement, list(study.analysis.movement.images)
    early, late = (block_index(block, encoder.spec.depth) for block in (movement.early, movement.late))
    picture = pixels_of([study.figures.attention_maps.image])[0]
    return {
        "attention_maps": maps_table(encoder, picture, queries),
        "attention_image": pixels_table(picture),
        "movement_tokens": movement_tokens_table(
            encoder, pixels_of(pair), [names[place] for place in pair], early, late, movement.basis
        ),
    }


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    """Measure one encoder and write its tables."""
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    study = load_study(arguments.config)
    subject = find_encoder(study, arguments.model, arguments.seed, arguments.stage)
    architecture = study.architectures[subject.architecture]
    encoder = open_encoder(subject, architecture, arguments.encoder).to(device)
    if arguments.grid is not None:
        encoder = at_grid(encoder, arguments.grid)
    content = data_hash(arguments.data)
    size, crop = encoder.spec.image_size, study.analysis.crop_fraction
    grid = encoder.spec.grid

    index, positions, names = analysis_images(study, arguments.data)

    def pixels_of(chosen: list[int]) -> Tensor:
        return decode_many(index, positions[chosen], size, crop_fraction=crop)

    images = batches(index, positions, size, crop, study.analysis.batch_size, workers=arguments.threads)
    metrics = measure(encoder, images, names, f"{subject.model} seed {subject.seed}")
    tables, folder = measured_tables(metrics, names, grid, study), arguments.tables
    figure, movement = study.figures.attention_maps, study.analysis.movement
    if arguments.grid is not None:
        folder = folder / f"grid{grid}"
    else:
        queries = choose_queries(
            figure.queries, data=arguments.data, image=names[figure.image], size=size, grid=grid, crop_fraction=crop
        )
        tables |= drawn_tables(encoder, pixels_of, names, queries, study)

    shape = {"grid": grid, "patch_size": encoder.spec.patch_size}
    decided_by = {
        "attention_maps": {"figure": figure},
        "attention_image": {"figure": figure},
        "movement_tokens": {"movement": movement},
        "image_spectrum": {"spectrum": study.analysis.spectrum, "bootstrap": study.figures.bootstrap},
    }
    for kind in KINDS if arguments.grid is None else MEASURED:
        head = table_head(study, subject, content, device, decided_by.get(kind, {})) | shape
        if kind in ("attention_maps", "attention_image"):
            head["image"] = names[figure.image]
        if kind == "attention_image":  # of no encoder
            head = {name: head[name] for name in (*HEAD, "image", *shape)}
        write_table(folder / kind / f"{arguments.run}.parquet", with_columns(tables[kind], head))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    add_subject_arguments(parser)
    parser.add_argument("--stage", choices=("pretrained", "finetuned"), default="pretrained", help="of the encoder")
    parser.add_argument("--grid", type=int, help="patches a side of the images, if not the encoder's own number")
    parser.add_argument("--tables", type=Path, required=True, help="folder of all tables; one folder a kind in it")
    parser.add_argument("--run", required=True, help="file name of the encoder's tables, without suffix")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
