"""Accuracy of a fine-tuned encoder on images it has not been trained on; the encoder and the log for others to read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cl_vs_mim.core.tables import row_head, with_head, write_table
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.transfer.finetuning.train import FineTuned
from cl_vs_mim.transfer.job import Job
from cl_vs_mim.transfer.predictions import prediction_rows


def evaluate(job: Job, trained: FineTuned) -> dict[str, pd.DataFrame]:
    """Table ``finetuning``: a row per validation image, and with categories per image of a held-out object.

    Options of the job: ``tuned``, where the fine-tuned encoder goes; ``log_table``, where the training's log goes.
    """
    trained.eval()
    parameters = sum(weight.numel() for weight in trained.encoder.parameters())
    rows = prediction_rows(trained.logits, job, depth=trained.encoder.spec.depth, parameters=parameters)
    tuned, log_table = job.options.get("tuned"), job.options.get("log_table")
    if tuned is not None:
        save_tuned(tuned, job, trained)
    if log_table is not None:
        log = job.held.read_log().assign(model=job.evaluated.model, seed=job.evaluated.seed, protocol=job.task.name)
        write_table(log_table, with_head(log, _head(job)))
    return {"finetuning": rows}


def save_tuned(path: Path, job: Job, trained: FineTuned) -> None:
    """Write the fine-tuned encoder, or the running mean of its weights, as a native checkpoint."""
    origin = _head(job) | {"model": job.evaluated.model, "seed": job.evaluated.seed, "stage": "finetuned"}
    origin |= {"method": job.evaluated.method}
    save_encoder(path, trained.encoder if trained.ema is None else trained.mean_encoder, origin)


def _head(job: Job) -> dict[str, str]:
    digest = job.held.digest
    return row_head(study=job.study.study, config_hash=digest, data_hash=job.data_hash, device=job.device)
