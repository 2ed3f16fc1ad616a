"""A detector trained on one encoder: detectron2's model, our order, run folder and polite end.

A killed run goes on from its last checkpoint and ends with the weights of an undisturbed one: on a CPU bit for bit, for
a fixed number of threads.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from cl_vs_mim.core.progress import progress
from cl_vs_mim.data.coco import read_coco
from cl_vs_mim.pretrain.interrupt import leave_paused, stop_on_signals
from cl_vs_mim.pretrain.loop import deterministic_on_cpu
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.transfer.detection.backbone import check_encoder
from cl_vs_mim.transfer.detection.data import TrainingSamples, records_of, training_batches
from cl_vs_mim.transfer.detection.detector import Detector
from cl_vs_mim.transfer.detection.recipe import detector_config, save_config
from cl_vs_mim.transfer.detection.settings import Detection
from cl_vs_mim.transfer.job import Job

LOG = "detectron2.log"  # in the run folder
# The last one tells detectron2's authors that a function was renamed.
_LOGGERS = ("detectron2", "fvcore", "iopath", "py.warnings", "torch.fx._symbolic_trace")


def train(job: Job) -> Detector:
    """The detector after training, or going on with it; its LazyConfig and detectron2's log are in the run folder.

    Leaves the process, with the state saved, when the deadline comes first.

    Raises:
        UserError: the settings do not fit the encoder, an annotation is faulty, or the loss is not finite.
    """
    settings: Detection = job.settings
    encoder, seed, device = job.encoder, job.evaluated.seed, job.device
    check_encoder(encoder.spec, settings, job.evaluated.model)
    split, _ = read_coco(job.data)
    folder = job.hold()
    with logs_to(folder.path / LOG):
        config = detector_config(encoder.spec, settings, len(split.categories), device)
        save_config(config, folder.path / "lazy_config.yaml")
        detector = Detector.build(config, encoder, settings, seed, device)
        state = folder.load_latest(device)
        if state is not None:
            detector.restore(state)
        if detector.step < settings.iterations:
            samples = TrainingSamples(records_of(split, objects_only=True), settings, seed)
            workers = job.study.compute.loader_workers if device.type == "cuda" else 0
            if not run_steps(detector, samples, folder, job.deadline, workers):
                leave_paused(detector.step, settings.iterations, unit="iteration")
    return detector


def run_steps(detector: Detector, samples: TrainingSamples, run: RunFolder, deadline: float, workers: int = 0) -> bool:
    """Train to the end or to the deadline (of ``time.monotonic``), writing log and checkpoints into ``run``.

    SIGTERM and SIGUSR1 end it after the iteration, as the deadline does. Returns whether the end was reached; the last
    state is saved in both cases.

    Raises:
        UserError: the loss is not finite, or an image cannot be read.
    """
    settings = detector.settings
    before, began = run.cut_log(detector.step), time.monotonic()
    saved = detector.step
    bar = progress(
        total=settings.iterations,
        initial=detector.step,
        desc=run.path.name.rsplit("_", 1)[0],
        unit="iteration",
    )
    with bar, deterministic_on_cpu(detector.device), stop_on_signals() as stop:
        batches = training_batches(samples, settings.batch_size, detector.step, workers)
        while detector.step < settings.iterations and not stop and time.monotonic() < deadline:
            line = detector.run_step(next(batches))
            bar.set_postfix(loss=f"{line['loss']:.3f}", refresh=False)
            bar.update()
            if detector.step % settings.log_iterations == 0 or detector.step == settings.iterations:
                run.log({"step": detector.step, **line, "seconds": before + time.monotonic() - began})
            if detector.step % settings.checkpoint_iterations == 0:
                run.save(detector.step, detector.state())
                saved = detector.step
    if detector.step > saved:
        run.save(detector.step, detector.state())
    return detector.step == settings.iterations


class _Log(logging.FileHandler):
    """A log that goes without a line when the disk is full: what the training itself writes says so in one."""

    def handleError(self, record: logging.LogRecord) -> None:
        del record

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written before cannot be now
            super().close()


@contextlib.contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Inside the block everything that detectron2, its helpers and Python's warnings say goes to this file."""
    handler = _Log(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()
