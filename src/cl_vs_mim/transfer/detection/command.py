"""One encoder through detection: train or go on, evaluate, draw, write the table."""

from __future__ import annotations

import argparse
import importlib.metadata
from pathlib import Path
from typing import Any

import detectron2
import torch

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.config.detection import Detection
from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file, sha256_json
from cl_vs_mim.core.tables import with_columns, write_table
from cl_vs_mim.data.coco import CocoSplit, read_coco
from cl_vs_mim.evaluated import EvaluatedEncoder, choose_device, data_hash, find_encoder, open_encoder, table_head
from cl_vs_mim.pretrain.interrupt import deadline_of, leave_paused
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.transfer.detection.backbone import check_encoder
from cl_vs_mim.transfer.detection.data import TrainingSamples, records_of
from cl_vs_mim.transfer.detection.draw import draw_predictions, sample_places
from cl_vs_mim.transfer.detection.evaluate import average_precision, predictions
from cl_vs_mim.transfer.detection.recipe import detector_config, save_config
from cl_vs_mim.transfer.detection.train import Detector, logs_to, train

FORMAT = 1  # of the training state; raised when newer code cannot go on with an older run


def detection_settings(study: Study) -> Detection:
    """The study's section.

    Raises:
        UserError: it has none.
    """
    if study.transfer is None or study.transfer.detection is None:
        raise UserError(f"study {study.study!r} has no section transfer.detection; add one (see config/demo.yaml)")
    return study.transfer.detection


def content_hash(data: Path, splits: tuple[CocoSplit, CocoSplit]) -> str:
    """What the composer calls the content of its scenes; for other data the hash of the two annotation files."""
    if (data.parent / "manifest.json").is_file():
        return data_hash(data.parent)
    return sha256_json([split.digest for split in splits])


def resolve(
    study: Study, subject: EvaluatedEncoder, encoder: Path | None, settings: Detection, content: str
) -> dict[str, Any]:
    """Everything that decides the detector's weights, as plain data."""
    later = {"least_score", "draw_images", "draw_score", "log_iterations", "checkpoint_iterations"}
    return {
        "format": FORMAT,
        "code": code_digest("cl_vs_mim.pretrain.trainer", "cl_vs_mim.transfer.detection.train"),
        "seed": subject.seed,
        "model": subject.model,
        "data_hash": content,
        "architecture": study.architectures[subject.architecture].model_dump(mode="json", exclude={"label"}),
        "encoder": None if encoder is None else sha256_file(encoder),
        "detection": settings.model_dump(mode="json", exclude=later),
    }


def main(arguments: argparse.Namespace) -> None:
    """Train a detector on one encoder, or go on with it, and write its table and picture."""
    deadline = deadline_of(arguments)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    study = load_study(arguments.config)
    settings = detection_settings(study)
    subject = find_encoder(study, arguments.model, arguments.seed)
    architecture = study.architectures[subject.architecture]
    check_encoder(architecture.spec(), settings, subject.model)
    splits = read_coco(arguments.data)
    content = content_hash(arguments.data, splits)
    encoder = open_encoder(subject, architecture, arguments.encoder)
    resolved = resolve(study, subject, arguments.encoder, settings, content)
    with (
        RunFolder(arguments.runs, f"detection_{subject.model}", resolved) as run,
        logs_to(run.path / "detectron2.log"),
    ):
        config = detector_config(encoder.spec, settings, len(splits[0].categories), device)
        save_config(config, run.path / "lazy_config.yaml")
        detector = Detector.build(config, encoder, settings, subject.seed, device)
        state = run.load_latest(device)
        if state is not None:
            detector.restore(state)
        if detector.step < settings.iterations:
            samples = TrainingSamples(records_of(splits[0], objects_only=True), settings, subject.seed)
            workers = study.compute.loader_workers if device.type == "cuda" else 0
            if not train(detector, samples, run, deadline, workers):
                leave_paused(detector.step, settings.iterations, unit="iteration")
        report(detector, splits[1], arguments, study, subject, content)


def report(
    detector: Detector,
    split: CocoSplit,
    arguments: argparse.Namespace,
    study: Study,
    subject: EvaluatedEncoder,
    content: str,
) -> None:
    """Evaluate on the validation images; write the picture, and last the table."""
    settings, label = detector.settings, f"{subject.label}, seed {subject.seed}"
    records = records_of(split)
    places, shown = set(sample_places(len(records), settings.draw_images)), []

    def found():
        for place, pair in enumerate(predictions(detector.model, records, settings, f"evaluate {subject.model}")):
            if place in places:
                shown.append(pair)
            yield pair

    rows = average_precision(split, found())
    if arguments.picture is not None:
        draw_predictions(arguments.picture, split, shown, settings, label)
    head = table_head(study, subject, content, detector.device, {"detection": settings})
    pycocotools = importlib.metadata.version("pycocotools")
    head["packages"] += f"; detectron2 {detectron2.__version__}; pycocotools {pycocotools}"
    write_table(arguments.output, with_columns(rows, head | {"iterations": detector.step, "unit": "percent"}))
