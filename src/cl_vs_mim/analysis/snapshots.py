"""Encoders that were kept while they trained, measured: when does an effect appear, and does it stay?

``<tables>/snapshots/<run>.parquet`` has a row per snapshot, depth and metric: ``images_seen`` (0: the weights that the
training began with), ``seconds`` of training, ``depth``, ``metric``, ``value``. The metrics are those of Figures 3, 4
and 8, means over images and heads, and ``knn_cls`` and ``knn_mean``, the share of validation images that their nearest
training images classify.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cl_vs_mim.analysis.metrics import Measurement
from cl_vs_mim.analysis.streaming import stream
from cl_vs_mim.config import Study
from cl_vs_mim.config.analysis import Phenomena
from cl_vs_mim.config.encoders import model_and_seed
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import read_table, row_head, with_columns, write_table
from cl_vs_mim.data.identity import data_hash
from cl_vs_mim.data.images import index_image_folder, select_evenly
from cl_vs_mim.encoder.checkpoints import load_encoder, read_header, require_spec
from cl_vs_mim.encoder.model import Encoder, build_encoder
from cl_vs_mim.encoder.pooling import POOLINGS
from cl_vs_mim.evaluated import SPLIT, batches, depth_features, find_run
from cl_vs_mim.metrics.attention import (
    attention_distance,
    attention_entropy,
    normalized_mutual_information,
    query_similarity,
)
from cl_vs_mim.metrics.fourier import relative_log_amplitudes
from cl_vs_mim.metrics.neighbours import nearest_neighbour_classes
from cl_vs_mim.metrics.register import metrics_of

MEASURED = metrics_of(
    attention_distance,
    normalized_mutual_information,
    attention_entropy,
    query_similarity,
    relative_log_amplitudes,
)
_TRAIN = "train"

# ------------------------------------------------------------------------------------------------
# Which
# ------------------------------------------------------------------------------------------------


def find_snapshots(run: str, encoder: Path, runs: Path) -> list[Path]:
    """The snapshots of the training that an encoder comes from, in the order of the images seen.

    Args:
        run: stem of the encoder, such as ``moco_v3_seed0``.
        encoder: its file, whose header names the run folder.
        runs: folder of all run folders.

    Raises:
        UserError: the header names no run folder, or there are no snapshots in it.
    """
    named = read_header(encoder)[1].get("run_folder")
    if not isinstance(named, str) or named != Path(named).name:
        raise UserError(f"{encoder} does not say which run it comes from; give the folder with --snapshots")
    return snapshots_in(Path(runs) / named / "snapshots", run)


def snapshots_in(folder: Path, run: str) -> list[Path]:
    """All snapshots of a folder, in the order of the images seen.

    Raises:
        UserError: there are none.
    """
    files = sorted(folder.glob("*.safetensors"), key=lambda path: int(read_header(path)[1]["images"]))
    if not files:
        raise UserError(f"{folder} has no snapshots of {run}; train it with training.snapshots in the study")
    return files


# ------------------------------------------------------------------------------------------------
# Measuring
# ------------------------------------------------------------------------------------------------


class SnapshotImages:
    """The images that every snapshot of a study is measured on."""

    def __init__(self, study: Study, data: Path, size: int, workers: int) -> None:
        settings = phenomena(study)
        train, val = (index_image_folder(data / split) for split in (_TRAIN, SPLIT))
        if train.classes != val.classes:
            raise UserError(f"{data}: {_TRAIN}/ and {SPLIT}/ have different classes, so no neighbour can vote")
        seed, crop, batch = study.analysis.seed, study.analysis.crop_fraction, study.analysis.batch_size
        known, asked = (
            select_evenly(train.labels, settings.memory, seed),
            select_evenly(val.labels, settings.images, seed),
        )
        self.memory = torch.cat(list(batches(train, known, size, crop, batch, workers)))
        self.images = torch.cat(list(batches(val, asked, size, crop, batch, workers)))
        self.memory_labels = torch.from_numpy(np.asarray(train.labels[known], dtype=np.int64))
        self.labels = torch.from_numpy(np.asarray(val.labels[asked], dtype=np.int64))
        self.batch_size, self.neighbours = batch, settings.neighbours

    def rows(self, encoder: Encoder) -> pd.DataFrame:
        """Depth, metric and value of one encoder."""
        measurement = Measurement(encoder.spec, MEASURED)
        for _ in stream(encoder, iter(self.images.split(self.batch_size)), list(measurement)):
            pass
        frames = []
        for name, one in MEASURED.items():
            values, depths = measurement.result(name)
            values = values[..., -1:] if one.per == "frequency" else values  # the highest one
            means = values.mean(axis=(0, *range(2, values.ndim)))
            frames.append(pd.DataFrame({"depth": depths, "metric": name, "value": means}))
        memory, features = (
            torch.cat([depth_features(encoder, part) for part in images.split(self.batch_size)])  # (B, L+1, 2, D)
            for images in (self.memory, self.images)
        )
        for place, way in enumerate(POOLINGS):
            for depth in range(1, features.shape[1]):
                found = nearest_neighbour_classes(
                    features[:, depth, place], memory[:, depth, place], self.memory_labels, self.neighbours
                )
                hit = (found == self.labels).double().mean().item()
                frames.append(pd.DataFrame({"depth": [float(depth)], "metric": f"knn_{way}", "value": [hit]}))
        return pd.concat(frames, ignore_index=True)


def phenomena(study: Study) -> Phenomena:
    """The study's settings for this.

    Raises:
        UserError: it has none.
    """
    if study.analysis.phenomena is None:
        raise UserError(f"study {study.study!r} has no analysis.phenomena: it says on what snapshots are measured")
    return study.analysis.phenomena


def measure_snapshots(
    study: Study,
    run: str,
    files: Sequence[Path],
    data: Path,
    tables: Path,
    *,
    log: Path | None,
    threads: int,
    config_hash: str,
) -> None:
    """Measure all snapshots of one training, and the weights that it began with.

    Args:
        study: which has the model.
        run: stem of the encoder, such as ``moco_v3_seed0``.
        files: the snapshots, in the order of the images seen.
        data: folder of the images, with ``train/``, ``val/`` and ``manifest.json``.
        tables: folder of all tables.
        log: the training log as a tidy table; without it the seconds are not known.
        threads: of the CPU.
        config_hash: for the head of every row.

    Raises:
        UserError: a snapshot is of another architecture, or the data set is not whole.
    """
    torch.set_num_threads(threads)
    name, seed = model_and_seed(study, run)
    architecture = study.architectures[study.models[name].architecture]
    images = SnapshotImages(study, data, architecture.image_size, threads)
    seconds = _clock(log, name, study)
    parts = []
    for path in progress([None, *files], desc=f"snapshots {run}", unit="snapshot"):
        if path is None:
            encoder, seen = build_encoder(architecture.spec(), seed).eval(), 0
        else:
            encoder, seen = load_encoder(path, "native"), int(read_header(path)[1]["images"])
            require_spec(path, encoder, architecture.spec(), study.models[name].architecture)
        parts.append(images.rows(encoder).assign(images_seen=seen, seconds=seconds(seen)))
    head = row_head(study=study.study, config_hash=config_hash, data_hash=data_hash(data), device=torch.device("cpu"))
    shape = {"grid": architecture.spec().grid, "patch_size": architecture.patch_size}
    frame = with_columns(pd.concat(parts, ignore_index=True), head | find_run(study, run).columns() | shape)
    write_table(tables / "snapshots" / f"{run}.parquet", frame)


def _clock(log: Path | None, model: str, study: Study) -> Callable[[int], float]:
    """From images seen to seconds of training, by the log; NaN without one."""
    if log is None:
        return lambda seen: float("nan")
    frame = read_table(log)
    batch = study.models[model].recipe()[1].batch_size
    steps, seconds = np.append(0, frame["step"]), np.append(0.0, frame["seconds"])
    return lambda seen: float(np.interp(seen / batch, steps, seconds))
