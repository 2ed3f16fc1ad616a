"""Shape or texture, and noise of one frequency, as a linear probe reads them (Figure 9).

Which classifier the paper's Figure 9 uses is UNKNOWN; here it is the study's linear probe (``analysis.robustness``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.config import FolderData
from cl_vs_mim.config.analysis import FourierNoise, Robustness
from cl_vs_mim.core.blocks import block_index
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import read_text_table, with_columns
from cl_vs_mim.data.identity import data_hash
from cl_vs_mim.data.images import ImageFolderIndex, index_image_folder, normalise
from cl_vs_mim.data.labels import image_labels
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.encoder.pooling import Pooling, pool, require_pooling
from cl_vs_mim.evaluated import SPLIT, analysis_images, batches
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.linear_probe.probes import Probe, load_probe
from cl_vs_mim.transfer.robustness.noise import noise_for_images, ring

# ------------------------------------------------------------------------------------------------
# Reading images with a probe
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """An encoder with a probe on top of it."""

    encoder: Encoder
    probe: Probe
    block: int  # 1 … L
    pooling: Pooling

    def __post_init__(self) -> None:
        require_pooling(self.encoder, self.pooling)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """(B, 3, S, S) normalised -> (B,) int64 into ``probe.classes``."""
        tokens = self.encoder.forward_blocks(self.encoder.embed(images), self.block)
        if self.probe.final_norm:
            tokens = self.encoder.norm(tokens)
        return self.probe(pool(tokens, self.pooling)).argmax(-1).cpu().numpy()


def read_folder(reader: Reader, images: Iterator[Tensor], count: int, label: str) -> np.ndarray:
    """(M,) what the reader predicts for uint8 batches."""
    device = next(reader.encoder.parameters()).device
    predictions = []
    with progress(total=count, desc=label, unit="image") as bar:
        for batch in images:
            predictions.append(reader(normalise(batch.to(device))))
            bar.update(len(batch))
    return np.concatenate(predictions)


# ------------------------------------------------------------------------------------------------
# Shape and texture
# ------------------------------------------------------------------------------------------------


def cue_table(data: Path, index: ImageFolderIndex) -> pd.DataFrame:
    """What the cue-conflict images show, in the order of the index: image, shape_group, texture_group, material.

    Raises:
        UserError: the data set has no images.csv, or an image no row in it.
    """
    path = data / "images.csv"
    if not path.exists():
        raise UserError(f"{path} does not exist, so the cues are unknown; build the data set again")
    columns = ("path", "shape_category", "texture_category", "material")
    table = read_text_table(path, columns, "build the data set again")
    if (twice := table["path"].duplicated()).any():
        raise UserError(f"{path} has two rows for image {table['path'][twice].iloc[0]}; build the data set again")
    table = table.set_index("path")
    absent = [name for name in index.paths if name not in table.index]
    if absent:
        raise UserError(f"{path} has no row for image {absent[0]} ({len(absent)} in all); build the data set again")
    rows = table.loc[list(index.paths)]
    return pd.DataFrame(
        {
            "image": list(index.paths),
            "shape_group": rows["shape_category"].to_numpy(),
            "texture_group": rows["texture_category"].to_numpy(),
            "material": rows["material"].to_numpy(),
        }
    )


def stylized_table(index: ImageFolderIndex) -> pd.DataFrame:
    """The same for an ImageFolder of stylised images: the folder is the shape, nothing is known of the texture."""
    shapes = np.array(index.classes, dtype=object)[index.labels]
    return pd.DataFrame({"image": list(index.paths), "shape_group": shapes, "texture_group": "", "material": ""})


def decide(cues: pd.DataFrame, predictions: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """``cues`` with the prediction and whose decision it is: the shape's, the texture's or neither's.

    Raises:
        UserError: a shape is none of the probe's classes.
    """
    unknown = sorted(set(cues["shape_group"]) - set(classes))
    if unknown:
        raise UserError(
            f"the probe knows no class {', '.join(unknown[:3])}; set analysis.robustness.labels to those of the images"
        )
    predicted = np.array(classes, dtype=object)[predictions]
    shape = predicted == cues["shape_group"].to_numpy()
    texture = ~shape & (predicted == cues["texture_group"].to_numpy())
    return cues.assign(predicted=predicted, decision=np.select([shape, texture], ["shape", "texture"], "other"))


# ------------------------------------------------------------------------------------------------
# Noise
# ------------------------------------------------------------------------------------------------


def noise_table(
    reader: Reader,
    images: list[Tensor],
    targets: np.ndarray,
    names: list[str],
    settings: FourierNoise,
    label: str,
) -> pd.DataFrame:
    """Rows of image, width, frequency and whether the reader is right; width and frequency 0: the clean image.

    Args:
        reader: the encoder with its probe.
        images: batches (B, 3, S, S) uint8, in memory.
        targets: (M,) into the probe's classes.
        names: the M images' names.
        settings: bands and amplitude.
        label: text of the progress bar.

    Raises:
        UserError: a band holds no frequency of images of this size.
    """
    size = images[0].shape[-1]
    bands = [(0.0, 0.0)] + [(width, frequency) for width in settings.widths for frequency in settings.frequencies]
    for width, frequency in bands[1:]:
        try:
            ring(size, frequency, width)
        except ValueError as error:
            raise UserError(f"analysis.robustness.noise: {error}") from error
    device = next(reader.encoder.parameters()).device
    frames = []
    with progress(total=len(bands) * len(names), desc=label, unit="image") as bar:
        for width, frequency in bands:
            predictions, done = [], 0
            for batch in images:
                pixels = batch.float() / 255
                if width:
                    places = list(range(done, done + len(batch)))
                    pixels = pixels + noise_for_images(places, size, frequency, width, settings.rms, settings.seed)
                predictions.append(reader(normalise(pixels.to(device))))
                done += len(batch)
                bar.update(len(batch))
            right = (np.concatenate(predictions) == targets).astype(np.int8)
            frames.append(
                pd.DataFrame({"image": names, "width": width, "frequency": round(frequency, 6), "value": right})
            )
    return pd.concat(frames, ignore_index=True)


# ------------------------------------------------------------------------------------------------
# One encoder
# ------------------------------------------------------------------------------------------------


def evaluate(job: Job, trained: None) -> dict[str, pd.DataFrame]:
    """Cue-conflict and noisy images read by one encoder and its probe.

    Options of the job: ``probes``, the encoder's probes; ``cues``, the data set of cue-conflict images, either the
    composer's, or a folder with ``stylized/``, an ImageFolder such as Stylized-ImageNet whose folders are the shapes
    and whose textures are unknown.

    Returns:
        ``cue_conflict``: a row per cue-conflict image with the probe's decision (its shape, its texture, or neither).
        ``noise``: a row per analysed validation image and band, 1 where the probe is right; width and frequency are 0
        for the clean image.
    """
    settings: Robustness = job.settings
    encoder, sample = job.encoder.to(job.device), job.study.analysis
    block = 1 + block_index(settings.block, job.architecture.depth)
    probe = load_probe(job.options["probes"], settings.labels, block, settings.pooling)
    reader = Reader(encoder, probe, block, settings.pooling)
    shape: dict[str, Any] = {"size": job.architecture.image_size, "crop_fraction": sample.crop_fraction}
    shape |= {"batch_size": sample.batch_size, "workers": job.threads}

    stylized = isinstance(job.study.data, FolderData)
    folder = job.options["cues"] / "stylized" if stylized else job.options["cues"]
    index = index_image_folder(folder)
    cues = stylized_table(index) if stylized else cue_table(folder, index)
    shown = batches(index, np.arange(len(index)), **shape)
    conflicts = decide(cues, read_folder(reader, shown, len(index), f"cues {job.evaluated.name}"), probe.classes)

    index, positions, names = analysis_images(job.study, job.data)
    labels = image_labels(job.data, SPLIT, index, settings.labels, probe.classes)
    clean = list(batches(index, positions, **shape))
    noisy = noise_table(reader, clean, labels.numbers[positions], names, settings.noise, f"noise {job.evaluated.name}")

    columns = {"metric": "top1", "depth": block, "pooling": settings.pooling, "labels": settings.labels}
    content = {"data_hash": data_hash(job.options["cues"])}
    return {
        "cue_conflict": with_columns(conflicts, content | columns),
        "noise": with_columns(noisy.assign(rms=settings.noise.rms), columns),
    }
