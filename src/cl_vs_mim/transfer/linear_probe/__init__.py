"""Linear probes on cached features of every depth, protocol ``cached`` (Figure 10)."""

from __future__ import annotations

from cl_vs_mim.config.analysis import Probe
from cl_vs_mim.config.tasks import Task

TASK = Task(
    name="linear_probe",
    title="linear probes of every depth on cached features",
    section="analysis.probe",
    settings=Probe,
    evaluate="cl_vs_mim.transfer.linear_probe.evaluate",
    tables=("linear_probe", "linear_probe_selection"),
    runs="methods",
    also=("analysis.crop_fraction",),
    files={"probes": "probes/{run}.safetensors"},
    folders={"cache": "features"},
    verb="linear-probe",
)
