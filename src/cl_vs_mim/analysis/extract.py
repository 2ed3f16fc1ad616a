"""One pass of one encoder over the analysis images, for every metric of Figures 2 to 8: tidy tables out.

Each table is ``<tables>/<kind>/<run>.parquet``, each row with its head (:data:`cl_vs_mim.core.tables.HEAD`), the
encoder's columns, ``grid`` and ``patch_size``, and then

``attention``        metric, image, depth (1 … L), head: Figures 3 and 4.
``attention_maps``   depth, head (-1: the mean), query (0 on the object, 1 off it), key patch; one image: Figure 2.
``attention_image``  a row per pixel of that image as the encoder saw it.
``diversity``        metric, image, depth, head (-1: of all heads): Figure 5.
``movement``         metric, image, depth: the numbers behind Figure 6.
``movement_tokens``  panel, image, before or after, token: coordinates of Figure 6.
``token_spectrum``   image, depth (0 … L), rank (1 … R): Figure 7.
``image_spectrum``   depth, rank, with its interval over images: Figure 7.
``fourier``          image, depth (0, 0.5 … L), frequency (units of pi): Figure 8.

On another grid of patches than the encoder's own, only the measured ones are written
(:data:`cl_vs_mim.metrics.layouts.MEASURED`), to ``<tables>/grid8/<kind>/<run>.parquet``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.analysis.metrics import Measurement
from cl_vs_mim.analysis.movement import movement_tokens_table
from cl_vs_mim.analysis.queries import choose_queries
from cl_vs_mim.analysis.streaming import stream
from cl_vs_mim.analysis.tables import maps_table, measured_table, pixels_table
from cl_vs_mim.config import Study
from cl_vs_mim.core.blocks import block_index
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import HEAD, with_columns, write_table
from cl_vs_mim.data.identity import data_hash
from cl_vs_mim.data.images import decode_many
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.resize import at_grid
from cl_vs_mim.evaluated import Evaluation, analysis_images, batches
from cl_vs_mim.metrics.layouts import MEASURED
from cl_vs_mim.metrics.spectrum import bootstrap_image_spectrum

# ------------------------------------------------------------------------------------------------
# The pass
# ------------------------------------------------------------------------------------------------


def measure(encoder: Encoder, images: Iterator[Tensor], names: list[str], label: str) -> Measurement:
    """Run the encoder over the images once and measure everything.

    Args:
        encoder: in evaluation mode.
        images: (B, 3, S, S) uint8 each.
        names: the images' names, in order.
        label: the encoder's name, for the progress bar and messages.

    Raises:
        UserError: a value is not finite; metric, image and depth are named.
    """
    measurement = Measurement(encoder.spec)
    try:
        with progress(total=len(names), desc=f"extract {label}", unit="image") as bar:
            for count in stream(encoder, images, list(measurement)):
                bar.update(count)
    except FloatingPointError as error:
        metric, image, depth = error.args
        why = "the encoder has diverged, train it again"
        if not encoder.has_cls:
            why = "the encoder has diverged, or the metric asks for CLS, which this one has not"
        raise UserError(f"{label}: {metric} of image {names[image]} is not finite at depth {depth:g}; {why}") from error
    return measurement


def measured_tables(measurement: Measurement, names: list[str], grid: int, study: Study) -> dict[str, pd.DataFrame]:
    """The tables of the pass, by kind, without their heads.

    Args:
        measurement: after the pass.
        names: the images' names.
        grid: patches along a side.
        study: sets the interval of the image-level spectrum.
    """
    tables = {kind: measured_table(measurement, kind, names, grid) for kind in MEASURED if kind != "image_spectrum"}
    means, _ = measurement.result("token_mean")  # (M, S, D)
    return tables | {"image_spectrum": _image_spectrum_table(means[:, ::2], study)}


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
        encoder: in evaluation mode.
        pixels_of: gives the analysed images of these indices, (B, 3, S, S) uint8.
        names: the analysed images' names.
        queries: the patches that Figure 2 asks where they look, (row, column).
        study: says which images and blocks are drawn.
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
# All of it
# ------------------------------------------------------------------------------------------------


def extract(
    evaluation: Evaluation, run: str, data: Path, tables: Path, *, grid: int | None, threads: int, config_hash: str
) -> None:
    """Measure one encoder and write its tables.

    Args:
        evaluation: the encoder, opened.
        run: file stem of the tables.
        data: folder of the images.
        tables: folder of all tables, one folder a kind in it.
        grid: patches a side of the images, if not the encoder's own number.
        threads: number of threads that decode images.
        config_hash: goes into the head of every row.

    Raises:
        UserError: the data set is not whole, or a value is not finite.
    """
    study, folder = evaluation.study, tables
    if grid is not None:
        evaluation, folder = replace(evaluation, encoder=at_grid(evaluation.encoder, grid)), tables / f"grid{grid}"
    encoder = evaluation.encoder
    content = data_hash(data)
    size, crop, patches = encoder.spec.image_size, study.analysis.crop_fraction, encoder.spec.grid
    index, positions, names = analysis_images(study, data)

    def pixels_of(chosen: list[int]) -> Tensor:
        return decode_many(index, positions[chosen], size, crop_fraction=crop)

    images = batches(index, positions, size, crop, study.analysis.batch_size, workers=threads)
    measurement = measure(encoder, images, names, evaluation.evaluated.name)
    frames, figure = measured_tables(measurement, names, patches, study), study.figures.attention_maps
    if grid is None:
        queries = choose_queries(
            figure.queries, data=data, image=names[figure.image], size=size, grid=patches, crop_fraction=crop
        )
        frames |= drawn_tables(encoder, pixels_of, names, queries, study)

    shape = {"grid": patches, "patch_size": encoder.spec.patch_size}
    common = evaluation.head(config_hash=config_hash, data_hash=content) | shape
    for kind, frame in frames.items():
        head = common
        if kind in ("attention_maps", "attention_image"):
            head = common | {"image": names[figure.image]}
        if kind == "attention_image":  # of no encoder
            head = {name: head[name] for name in (*HEAD, "image", *shape)}
        write_table(folder / kind / f"{run}.parquet", with_columns(frame, head))
