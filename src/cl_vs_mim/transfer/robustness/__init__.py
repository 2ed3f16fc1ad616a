"""Robustness: cue-conflict images and noise of one band of frequencies, read by a linear probe (Figure 9)."""

from __future__ import annotations

from cl_vs_mim.config.analysis import Robustness
from cl_vs_mim.config.tasks import Task

TASK = Task(
    name="robustness",
    title="shape or texture, and noise, read by a linear probe",
    section="analysis.robustness",
    settings=Robustness,
    evaluate="cl_vs_mim.transfer.robustness.evaluate",
    tables=("cue_conflict", "noise"),
    runs="pair",
    more_data=("cue_conflict", "stylized"),
    also=("analysis.images", "analysis.seed", "analysis.crop_fraction", "analysis.probe"),
    inputs={"probes": "probes/{run}.safetensors", "cues": "data/cue_conflict/manifest.json"},
    verb="robustness",
)
