"""Shape or texture, and noise of one frequency, as a linear probe reads them (Figure 9).

    python -m cl_vs_mim.transfer.robustness --config config/demo.yaml --model moco_v3 --seed 0 \\
        --encoder results/demo/encoders/moco_v3_seed0.safetensors \\
        --probes results/demo/probes/moco_v3_seed0.safetensors --data results/demo/data/objects \\
        --cue-conflict results/demo/data/cue_conflict --tables results/demo/tables --run moco_v3_seed0

writes ``<tables>/cue_conflict/<run>.parquet``, a row per cue-conflict image with the decision of the probe (its shape,
its texture, or neither), and ``<tables>/noise/<run>.parquet``, a row per validation image and band, 1 where the probe
is right; width and frequency are 0 for the clean image. ``--stylized`` reads an ImageFolder of stylised images, such
as Stylized-ImageNet, in place of the cue-conflict images: its folders are the shapes, textures are unknown.

Which classifier the paper's Figure 9 uses is UNKNOWN; here it is the study's linear probe (``analysis.robustness``).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cl_vs_mim.config import Study, block_index, load_study
from cl_vs_mim.config.analysis import FourierNoise
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import with_columns, write_table
from cl_vs_mim.data.images import ImageFolderIndex, index_image_folder, normalise
from cl_vs_mim.data.labels import image_labels
from cl_vs_mim.encoder.model import Encoder
from cl_vs_mim.evaluated import (
    SPLIT,
    add_subject_arguments,
    analysis_images,
    batches,
    choose_device,
    data_hash,
    find_encoder,
    open_encoder,
    table_head,
)
from cl_vs_mim.transfer.features import pooled
from cl_vs_mim.transfer.linear_probe import Probe, load_probe
from cl_vs_mim.transfer.noise import noise_for_images, ring

# ------------------------------------------------------------------------------------------------
# Reading images with a probe
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """An encoder with a probe on top of it."""

    encoder: Encoder
    probe: Probe
    block: int  # 1 … L
    pooling: str

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """(B, 3, S, S) normalised -> (B,) int64 into ``probe.classes``."""
        backbone = self.encoder.backbone
        tokens = self.encoder.embed(images)
        bias = {} if self.encoder.spec.family == "vit" else {"shared_rel_pos_bias": backbone.rel_pos_bias()}
        for block in backbone.blocks[: self.block]:
            tokens = block(tokens, **bias)
        if self.probe.final_norm:
            tokens = self.encoder.norm(tokens)
        return self.probe(pooled(tokens, self.pooling)).argmax(-1).cpu().numpy()


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
    table = pd.read_csv(path, keep_default_na=False, dtype=str).set_index("path")
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
        reader: of the encoder.
        images: batches (B, 3, S, S) uint8, in memory.
        targets: (M,) into the probe's classes.
        names: of the M images.
        settings: bands and amplitude.
        label: of the progress bar.

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
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    """Read cue-conflict and noisy images with one encoder and its probe."""
    torch.set_num_threads(arguments.threads)
    study = load_study(arguments.config)
    subject = find_encoder(study, arguments.model, arguments.seed)
    architecture = study.architectures[subject.architecture]
    encoder = open_encoder(subject, architecture, arguments.encoder).to(choose_device(arguments.device))
    settings, sample = study.analysis.robustness, study.analysis
    block = 1 + block_index(settings.block, architecture.depth)
    probe = load_probe(arguments.probes, settings.labels, block, settings.pooling)
    reader = Reader(encoder, probe, block, settings.pooling)
    label = f"{subject.model} seed {subject.seed}"
    size, crop, workers = architecture.image_size, sample.crop_fraction, arguments.threads

    folder = arguments.stylized or arguments.cue_conflict
    index = index_image_folder(folder)
    cues = stylized_table(index) if arguments.stylized else cue_table(folder, index)
    everything = np.arange(len(index))
    shown = batches(index, everything, size, crop, sample.batch_size, workers=workers)
    conflicts = decide(cues, read_folder(reader, shown, len(index), f"cues {label}"), probe.classes)

    index, positions, names = analysis_images(study, arguments.data)
    labels = image_labels(arguments.data, SPLIT, index, settings.labels, probe.classes)
    clean = list(batches(index, positions, size, crop, sample.batch_size, workers=workers))
    noisy = noise_table(reader, clean, labels.numbers[positions], names, settings.noise, f"noise {label}")

    sources = {
        "cue_conflict": folder if (folder / "manifest.json").exists() else arguments.data,
        "noise": arguments.data,
    }
    columns = {"metric": "top1", "depth": block, "pooling": settings.pooling, "labels": settings.labels}
    for kind, table in (("cue_conflict", conflicts), ("noise", noisy)):
        head = _head(study, arguments, subject, data_hash(sources[kind])) | columns
        extra = {"rms": settings.noise.rms} if kind == "noise" else {}
        write_table(arguments.tables / kind / f"{arguments.run}.parquet", with_columns(table.assign(**extra), head))


def _head(study: Study, arguments: argparse.Namespace, subject, content: str) -> dict[str, str | int]:
    sections = {"robustness": study.analysis.robustness, "probe": study.analysis.probe}
    return table_head(study, subject, content, choose_device(arguments.device), sections)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=main.__doc__)
    add_subject_arguments(parser)
    parser.add_argument("--probes", type=Path, required=True, help="the encoder's probes, .safetensors")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--cue-conflict", type=Path, help="folder of the composed cue-conflict images")
    group.add_argument("--stylized", type=Path, help="ImageFolder of stylised images")
    parser.add_argument("--tables", type=Path, required=True, help="folder of all tables; one folder a kind in it")
    parser.add_argument("--run", required=True, help="file name of the encoder's tables, without suffix")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
