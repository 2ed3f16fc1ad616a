"""What the workflow would run again after an edit: Snakemake's own DAG, with what decides each job asked anew.

A DAG takes seconds to build, so it is built once for a study. What Snakemake compares of a job, its parameters and the
set of its input files, is then asked of the same rules under an edited study or with an edited module; jobs that depend
on one that runs again run again, but for inputs that are taken as ``ancient``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

from cl_vs_mim.core import closure, commands


@dataclass
class Plan:
    """All jobs of a study, and how each hangs on the others."""

    workflow: Any
    below: dict[str, set[str]] = field(default_factory=dict)  # job -> jobs that use its files
    jobs: dict[str, Any] = field(default_factory=dict)  # "extract moco_v3_seed0" -> Snakemake's job
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        made_by = {}
        for job in self.workflow.dag.jobs:
            name = " ".join([job.rule.name, *map(str, job.wildcards_dict.values())])
            self.jobs[name] = job
            self.inputs[name] = tuple(sorted(map(str, job.input)))
            made_by |= {str(file): name for file in job.output}
        for name, job in self.jobs.items():
            for file in job.input:
                if str(file) in made_by and not file.is_ancient:
                    self.below.setdefault(made_by[str(file)], set()).add(name)

    def params(self) -> dict[str, frozenset[str]]:
        """Of every job what Snakemake compares: its parameters, those made from input and output files left out."""
        return {
            name: frozenset(map(repr, job.rule.expand_params(job.wildcards_dict, job.input, job.output, job)[1]))
            for name, job in self.jobs.items()
        }

    def dependents(self, changed: set[str]) -> set[str]:
        """These jobs and all that hang on them."""
        found: set[str] = set()
        waiting = list(changed)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.below.get(name, ())
        return found

    def with_study(self, study: Any) -> set[str]:
        """Jobs that run again when the study's values have become those of ``study``, which has the same jobs."""
        before = self.params()
        variables = self.workflow.globals
        old = variables["STUDY"]
        variables["STUDY"] = study
        try:
            after = self.params()
        finally:
            variables["STUDY"] = old
        return self.dependents({name for name in self.jobs if before[name] != after[name]})

    def with_module(self, module: str) -> set[str]:
        """Jobs that run again when a module does something else."""
        before = self.params()
        with _edited(module):
            after = self.params()
        return self.dependents({name for name in self.jobs if before[name] != after[name]})

    def compared_to(self, other: Plan) -> set[str]:
        """Jobs of this plan that run again, or for the first time, after the other plan was carried out."""
        before, after = other.params(), self.params()
        changed = {
            name for name in self.jobs if before.get(name) != after[name] or other.inputs.get(name) != self.inputs[name]
        }
        return self.dependents(changed)


@contextmanager
def _edited(module: str) -> Iterator[None]:
    """As if the source of a module were another: digests of closures that hold it change."""
    real = commands.code_digest

    def digest(*modules: str) -> str:
        return real(*modules) + (" edited" if module in closure.closure(modules) else "")

    commands.code_digest = digest
    try:
        yield
    finally:
        commands.code_digest = real


@contextmanager
def plan(folder: Path, study: str) -> Iterator[Plan]:
    """The plan of everything that a study has, in a folder with the Snakefile; nothing is run."""
    here = Path.cwd()
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow_api = api.workflow(
                resource_settings=ResourceSettings(cores=2),
                config_settings=ConfigSettings(config={"study": study}),
                snakefile=folder / "Snakefile",
                workdir=folder,
            )
            dag_api = workflow_api.dag(dag_settings=DAGSettings(forceall=True))
            with redirect_stdout(StringIO()):
                dag_api.printrulegraph()
            yield Plan(workflow_api._workflow)
    finally:
        os.chdir(here)


def counted(jobs: set[str]) -> dict[str, int]:
    """Number of jobs by rule, without the rules that run nothing and those that only set links."""
    rules = Counter(name.split()[0] for name in jobs)
    return {rule: rules[rule] for rule in sorted(rules) if rule not in WITHOUT_WORK}


WITHOUT_WORK = ("all", "study", "shown_study", "show_figures", "show_tables")
