"""Transfer tasks as data: what rules, tables, figures and the audit know of a task without importing torch.

A task is a module or a package of :mod:`cl_vs_mim.transfer`, or a user's own, that binds ``TASK`` to a :class:`Task`.
It says where its settings are in the YAML, which encoders it is done for, which modules do the work, which tables it
writes, and which scores are read from them. Nothing else lists tasks: the section ``transfer`` of a study, the rules,
Figures 1 and 12, Tables 1 and 2 and the audit iterate the register.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cl_vs_mim.config.encoders import (
    analysed_runs,
    control_runs,
    decides_encoder,
    decides_training,
    method_runs,
    pair_runs,
)
from cl_vs_mim.config.models import Training
from cl_vs_mim.config.sections import Section
from cl_vs_mim.config.study import Study
from cl_vs_mim.config.transfer import TASKS
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.families import FAMILIES


@dataclass(frozen=True)
class Score:
    """One number of an encoder, as tables of results, Figures 1 and 12 and the audit show it.

    Attributes:
        name: its column in Tables 1 and 2, such as ``fine-tuning``.
        title: heading of the column, with the unit.
        table: the table it is read from, a folder below ``results/<study>/tables``.
        where: values that the rows have in these columns.
        rows: ``images``: a row per image, whose values are averaged and resampled for the interval; ``whole``: a row
            is a number of the whole data set, and one seed has no interval.
        factor: from the table's ``value`` to ``unit``.
        unit: unit of the score after that.
        chance: column with the accuracy of always naming the commonest class; None where there is no such number.
        published: panel and column of the paper's Figure 1 where its value stands; None where there is none.
        place: columns are ordered by it.
    """

    name: str
    title: str
    table: str
    where: Mapping[str, str]
    rows: Literal["images", "whole"] = "whole"
    factor: float = 1.0
    unit: str = "percent"
    chance: str | None = None
    published: tuple[str, str] | None = None
    place: int = 100


@dataclass(frozen=True)
class Task:
    """A transfer task.

    The module ``train`` has ``train(job) -> trained``, and the module ``evaluate`` has ``evaluate(job, trained) ->
    {table: rows}`` (see :class:`cl_vs_mim.transfer.job.Job`). A task whose training takes no longer than its
    evaluation has no ``train``, and ``trained`` is None; one that has it gets a run folder and survives being killed.

    Attributes:
        name: name of the task, its rule and its entry in the register.
        title: in words, for help and documentation.
        section: where its settings are in the YAML, such as ``transfer.finetuning``.
        settings: class of that section.
        evaluate: full name of the module.
        train: full name of the module, or None.
        tables: the tables it writes, one folder each below ``results/<study>/tables``.
        runs: the encoders it is done for: ``all``, ``methods`` (no hybrids) or ``pair`` (the main pair), each with
            the untrained controls of their architectures.
        any_size: whether encoders are shown images of other sizes than their own, which not all families take.
        data: the data set it reads, a folder below ``results/<study>/data``.
        part: the folder within the data set, such as ``coco``.
        more_data: further data sets whose settings decide the result.
        also: other keys of the study, dotted, that decide the result.
        later: keys of ``settings`` that decide the evaluation but not the training.
        words: keys of ``settings`` that decide nothing.
        inputs: further files, option of the command -> path below ``results/<study>``, with ``{run}``.
        files: what it writes besides tables, option of the command -> path below ``results/<study>``, with ``{run}``.
        folders: option of the command -> folder below ``results/<study>`` that outlives the job, such as a cache.
        retrains: modules whose code decides what is trained, where that is less than all of ``train``.
        packages: packages that it needs, which the head of every row lists: name of the module -> of the package.
        extra: where those packages come from, for the error message.
        verb: the command's name on the command line.
        scores: the numbers of an encoder that others read.
    """

    name: str
    title: str
    section: str
    settings: type[Section]
    evaluate: str
    train: str | None = None
    tables: tuple[str, ...] = ()
    runs: Literal["all", "methods", "pair"] = "all"
    any_size: bool = False
    data: str = "objects"
    part: str = ""
    more_data: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    later: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset({"choices"})
    inputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    retrains: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    verb: str = "transfer"
    scores: tuple[Score, ...] = ()


# ------------------------------------------------------------------------------------------------
# The tasks of a study
# ------------------------------------------------------------------------------------------------


def study_tasks(study: Study) -> dict[str, Task]:
    """The tasks that a study has settings for, by name.

    Raises:
        UserError: an encoder that a task is done for takes images of its own size only.
    """
    register = TASKS.of(study)
    tasks = {name: register[name] for name in register.names()}
    tasks = {name: task for name, task in tasks.items() if settings_of(task, study) is not None}
    for task in tasks.values():
        _require_any_size(task, study)
    return tasks


def _require_any_size(task: Task, study: Study) -> None:
    if not task.any_size:
        return
    for name, _ in task_runs(task, study).values():
        kind = study.controls().get(name) or study.models[name].architecture
        family = study.architectures[kind].family
        if not FAMILIES.of(study)[family].any_size:
            raise UserError(
                f"{task.section}: {name} is of family {family}, whose encoders take images of their own size only; "
                "leave the task out, or choose other models for figures.pair"
            )


def settings_of(task: Task, study: Study) -> Section | None:
    """The study's settings of a task, or None where it leaves the task out."""
    found: Any = study
    for key in task.section.split("."):
        found = getattr(found, key, None)
    return found


def need_settings(task: Task, study: Study) -> Section:
    """The study's settings of a task, which it must have.

    Raises:
        UserError: the study leaves the task out.
    """
    settings = settings_of(task, study)
    if settings is None:
        raise UserError(f"study {study.study!r} has no {task.section}; add it to its YAML (see config/quick.yaml)")
    return settings


def task_runs(task: Task, study: Study) -> dict[str, tuple[str, int]]:
    """Stem of every encoder that a task is done for, with its model and seed; empty where the study leaves it out."""
    if settings_of(task, study) is None:
        return {}
    if task.runs == "all":
        return analysed_runs(study) | control_runs(study)
    return method_runs(study) if task.runs == "methods" else pair_runs(study)


def table_runs(table: str, study: Study) -> dict[str, tuple[str, int]] | None:
    """The encoders that a task writes this table of, as :func:`task_runs` has them; None where no task writes it."""
    register = TASKS.of(study)
    writers = [task for task in (register[name] for name in register.names()) if table in task.tables]
    return task_runs(writers[0], study) if writers else None


def scores(study: Study) -> dict[str, Score]:
    """The scores of all tasks of a study, by name, in the order of their columns."""
    found = [score for task in study_tasks(study).values() for score in task.scores]
    return {score.name: score for score in sorted(found, key=lambda score: (score.place, score.name))}


def project_score(name: str) -> Score:
    """A score of the project's own tasks, whether a study does them or not.

    Raises:
        KeyError: none of them has it.
    """
    register = TASKS.extended(())
    return {score.name: score for task in register.names() for score in register[task].scores}[name]


# ------------------------------------------------------------------------------------------------
# What decides the result
# ------------------------------------------------------------------------------------------------


def decides(task: Task, study: Study, run: str) -> dict[str, Any]:
    """All settings that decide the tables of one encoder, as plain data: for the rule and for the head of every row.

    Raises:
        UserError: the study has no such encoder, or leaves the task out.
    """
    names = {"kit", "seed", task.data, task.part, *task.more_data}
    return {
        "task": task.name,
        "encoder": decides_encoder(study, run),
        "data": study.data.model_dump(mode="json", include=names),
        "settings": _decisive(need_settings(task, study), task.words),
        **{key: _at(study, key) for key in task.also},
    }


def decides_training_of(task: Task, study: Study) -> dict[str, Any]:
    """Those of the task's settings that decide what is trained: for the name of the run folder."""
    return _decisive(need_settings(task, study), task.words | task.later)


def code_of(task: Task, study: Study, run: str) -> tuple[str, ...]:
    """Modules whose closure decides the tables of one encoder.

    Raises:
        UserError: the study has no such encoder.
    """
    family = decides_encoder(study, run)["architecture"]["family"]
    return ("cl_vs_mim.transfer.run", *filter(None, (task.train, task.evaluate)), FAMILIES.of(study).module(family))


def training_code_of(task: Task, family: str) -> tuple[str, ...]:
    """Modules whose closure decides what is trained, for an encoder of this family, and after an edit of which it is
    trained again."""
    steps = ("cl_vs_mim.pretrain.trainer",) if "training" in task.settings.model_fields else ()
    return (*steps, *(task.retrains or filter(None, (task.train,))), FAMILIES.module(family))


def _decisive(settings: Section, words: frozenset[str]) -> dict[str, Any]:
    found = settings.model_dump(mode="json", exclude=set(words))
    training = getattr(settings, "training", None)
    return found | {"training": decides_training(training)} if isinstance(training, Training) else found


def _at(study: Study, key: str) -> Any:
    found: Any = study
    for part in key.split("."):
        found = getattr(found, part)
    return found.model_dump(mode="json") if isinstance(found, Section) else found
