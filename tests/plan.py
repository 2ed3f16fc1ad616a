"""What the workflow would run again after an edit: Snakemake's own DAG, with what decides each job asked anew.

A DAG takes seconds to build, so it is built once for a study. What Snakemake compares of a job, its parameters and the
set of its input files, is then asked of the same rules under an edited study or with an edited module; jobs that depend
on one that runs again run again, but for inputs that are taken as ``ancient``. ``test_reruns.py`` compares that with
what Snakemake itself would run (:func:`needed`) in a folder where it believes everything to be made (:func:`pretend`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from snakemake.api import DAGApi, SnakemakeApi
from snakemake.executors import touch
from snakemake.scheduling import greedy
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
    SchedulingSettings,
)

from cl_vs_mim.core import closure, commands

WITHOUT_WORK = ("all", "study", "shown_study", "show_figures", "show_tables")

# ------------------------------------------------------------------------------------------------
# Our answer
# ------------------------------------------------------------------------------------------------


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
            name = _name(job)
            self.jobs[name] = job
            self.inputs[name] = tuple(sorted(map(str, job.input)))
            made_by |= {str(file): name for file in job.output}
        for name, job in self.jobs.items():
            for file in job.input:
                if str(file) in made_by and not file.is_ancient:
                    self.below.setdefault(made_by[str(file)], set()).add(name)

    @property
    def study(self) -> Any:
        """The study as the rules see it."""
        return self.workflow.globals["STUDY"]

    def params(self) -> dict[str, frozenset[str]]:
        """Of every job what Snakemake compares: its parameters, those made from input and output files left out."""
        return {
            name: frozenset(map(repr, job.rule.expand_params(job.wildcards_dict, job.input, job.output, job)[1]))
            for name, job in self.jobs.items()
        }

    @cached_property
    def unedited(self) -> dict[str, frozenset[str]]:
        """:meth:`params` before any edit."""
        return self.params()

    @cached_property
    def digested(self) -> dict[str, set[tuple[str, ...]]]:
        """Job -> the modules whose closure is digested in its parameters: marks in place of digests show them."""
        marks: dict[str, tuple[str, ...]] = {}

        def mark(*modules: str) -> str:
            marks[f"<{' '.join(modules)}>"] = modules
            return f"<{' '.join(modules)}>"

        with mock.patch.object(commands, "code_digest", mark):
            marked = self.params()
        return {
            name: {modules for mark, modules in marks.items() if any(mark in one for one in params)}
            for name, params in marked.items()
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
        before = self.unedited
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
        every = set().union(*self.digested.values())
        before = {modules: closure.code_digest(*modules) for modules in every}
        with edited_module(module):
            changed = {modules for modules in every if closure.code_digest(*modules) != before[modules]}
        return self.dependents({name for name, digested in self.digested.items() if digested & changed})

    def compared_to(self, other: Plan) -> set[str]:
        """Jobs of this plan that run again, or for the first time, after the other plan was carried out."""
        before, after = other.unedited, self.unedited
        changed = {
            name for name in self.jobs if before.get(name) != after[name] or other.inputs.get(name) != self.inputs[name]
        }
        return self.dependents(changed)


@contextmanager
def edited_module(module: str) -> Iterator[None]:
    """As if a module did something else than its source says."""
    real = closure._code
    with mock.patch.object(closure, "_code", lambda name: real(name) + ("\nedited = True" if name == module else "")):
        yield


def counted(jobs: set[str]) -> dict[str, int]:
    """Number of jobs by rule, without the rules that run nothing and those that only set links."""
    rules = Counter(name.split()[0] for name in jobs)
    return {rule: rules[rule] for rule in sorted(rules) if rule not in WITHOUT_WORK}


# ------------------------------------------------------------------------------------------------
# Snakemake's
# ------------------------------------------------------------------------------------------------


@contextmanager
def opened(folder: Path, config: dict[str, str], **settings: Any) -> Iterator[DAGApi]:
    """Snakemake on a folder with the Snakefile, in this process, which saves seconds of imports each time.

    Args:
        folder: a copy of what the workflow reads.
        config: as after ``--config``.
        settings: of :class:`DAGSettings`.

    Raises:
        WorkflowError: what a user would be told.
    """
    here = Path.cwd()
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=2),
                config_settings=ConfigSettings(config=config),
                snakefile=folder / "Snakefile",
                workdir=folder,
            )
            yield workflow.dag(dag_settings=DAGSettings(**settings))
    finally:
        os.chdir(here)


@contextmanager
def plan(folder: Path, study: str, *targets: str) -> Iterator[Plan]:
    """Everything that a study has, or that these targets need, whether it is made already or not; nothing is run."""
    with opened(folder, {"study": study}, targets=set(targets), forceall=True) as dag:
        yield Plan(_built(dag))


def needed(folder: Path, study: str, *targets: str) -> set[str]:
    """The jobs that ``snakemake -n`` lists.

    Raises:
        WorkflowError: what a user would be told.
    """
    with opened(folder, {"study": study}, targets=set(targets)) as dag:
        found = _built(dag).dag
        return {_name(job) for job in found.jobs if found.needrun(job)}


def pretend(folder: Path, study: str) -> None:
    """Let Snakemake believe that it has made everything that a study has: empty files, and its notes of each."""
    with plan(folder, study) as whole:
        files = [folder / str(file) for job in whole.jobs.values() for file in job.output]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with (
        opened(folder, {"study": study}, forceall=True) as dag,
        mock.patch.object(touch.Executor, "SLEEPING_TIME", 0.001),
    ):
        dag.execute_workflow(executor="touch", scheduling_settings=SchedulingSettings(scheduler="greedy"))


def carry_out(folder: Path, study: str, *targets: str, rules: set[str]) -> None:
    """Make the targets by some of the rules, as ``--allowed-rules`` does.

    Raises:
        WorkflowError: a job failed.
    """
    with opened(folder, {"study": study}, targets=set(targets), allowed_rules=rules) as dag:
        dag.execute_workflow(
            executor="local",
            scheduling_settings=SchedulingSettings(scheduler="greedy"),
            scheduler_settings=greedy.SchedulerSettings(),
        )


def _built(dag: DAGApi) -> Any:
    """The workflow with its DAG."""
    with redirect_stdout(StringIO()):
        dag.printrulegraph()
    return dag.workflow_api._workflow


def _name(job: Any) -> str:
    return " ".join([job.rule.name, *map(str, job.wildcards_dict.values())])
