"""What a figure is: its words, what it reads of a study, and how it is drawn.

A module of this package that binds ``FIGURE = Figure(…)`` is a figure: the command ``cl-vs-mim figures <name>`` draws
it, and the workflow makes it wherever a study has the tables that it reads. Nothing else lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import pandas as pd

from cl_vs_mim.config import Study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.registry import Register
from cl_vs_mim.figures.sources import Reference, Table, runs_of

FIGURES = Register("figure", "cl_vs_mim.figures", "FIGURE")
BOOTSTRAP = "figures.bootstrap"  # the setting that every figure with intervals reads

Frames = Mapping[str, pd.DataFrame]  # what a figure reads, by the names that it gives
Drawing = tuple[matplotlib.figure.Figure, pd.DataFrame]  # the picture, and exactly what it shows


def _always(study: Study) -> bool:
    return True


@dataclass(frozen=True)
class Figure:
    """One figure of the replication.

    Attributes:
        title: a line.
        caption: what is drawn and how to read it.
        reads: name -> a kind of table and the encoders that it is read of, or the published values. A table that is
            not optional is also a condition: a study without it does not have the figure.
        draw: (frames by the names of ``reads``, study) -> the picture and a table of what it shows. The frames are
            checked: of this study, of its encoders, in its order of models, with the columns asked for; an optional
            one that is not there has no rows.
        settings: sections of the study that ``draw`` reads, such as ``figures.bootstrap``; no others can be read. A
            change of one of them draws the figure again, and a change of any other does not.
        scores: names of scores of the project's tasks that it draws; see :class:`cl_vs_mim.config.tasks.Score`.
        needs: what else a study must have for the figure to make sense.
    """

    title: str
    caption: str
    reads: Mapping[str, Table | Reference]
    draw: Callable[[Frames, Study], Drawing]
    settings: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    needs: Callable[[Study], bool] = _always

    def sections(self) -> tuple[str, ...]:
        """:attr:`settings`, and the main pair where the figure reads tables of it."""
        of_pair = any(isinstance(one, Table) and one.of.startswith("pair") for one in self.reads.values())
        return (*self.settings, "figures.pair") if of_pair else self.settings

    def belongs_to(self, study: Study) -> bool:
        """Whether the study makes everything that the figure cannot do without."""
        tables = [one for one in self.reads.values() if isinstance(one, Table) and not one.optional]
        return all(runs_of(study, one) for one in tables) and self.needs(study)

    def drawn(self, frames: Frames, study: Study) -> Drawing:
        """Draw it with no other settings within reach than those that it declares."""
        return self.draw(frames, restricted(study, self.sections()))


# ------------------------------------------------------------------------------------------------
# Names
# ------------------------------------------------------------------------------------------------


def file_name(name: str) -> str:
    """``fig3`` for the module ``fig03``; the name itself for the others."""
    number = name.removeprefix("fig")
    return f"fig{int(number)}" if number.isdigit() and number != name else name


def figures_of(study: Study) -> dict[str, str]:
    """The figures that a study has: name of the file -> name in the register, in the order of their names."""
    register = FIGURES.of(study)
    found = {file_name(name): name for name in register.names() if register[name].belongs_to(study)}
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def named_figure(name: str, study: Study) -> tuple[str, Figure]:
    """Name in the register and figure, by either name: ``fig3`` or ``fig03``; the study's extensions may have it.

    Raises:
        UserError: there is no such figure; the nearest and all others are named.
    """
    register = FIGURES.of(study)
    names = {file_name(each): each for each in register.names()}
    if name not in names and name not in names.values():
        known = ", ".join(sorted(names, key=lambda each: names[each]))
        raise UserError(f"there is no figure {name!r}; there are: {known}")
    found = names.get(name, name)
    return found, register[found]


# ------------------------------------------------------------------------------------------------
# Settings
# ------------------------------------------------------------------------------------------------

_PARTS = ("figures", "analysis", "transfer", "data", "compute", "expect")  # of a study, which figures read with leave


class _Part:
    """A part of a study of which only the declared sections can be read."""

    def __init__(self, name: str, part: Any, allowed: set[str]) -> None:
        self._name, self._part, self._allowed = name, part, allowed

    def __getattr__(self, key: str) -> Any:
        if key not in self._allowed:
            raise LookupError(f"the figure reads {self._name}.{key}, which is not among its settings")
        return getattr(self._part, key)


def restricted(study: Study, settings: tuple[str, ...]) -> Study:
    """The study with these sections of its figures, analysis and transfer, and none of the others.

    What figures always need (name, title, models, architectures) stays. Reading anything else raises ``LookupError``,
    so that a figure cannot depend on a setting that it does not declare.
    """
    parts = {}
    for part in _PARTS:
        allowed = {name.split(".")[1] for name in settings if name.startswith(f"{part}.")}
        parts[part] = _Part(part, getattr(study, part), allowed)
    return study.model_copy(update=parts)


def setting(study: Study, name: str) -> Any:
    """A section of the study, such as ``figures.bootstrap``, as plain data; None where the study leaves it out."""
    found: Any = study
    for key in name.split("."):
        found = None if found is None else getattr(found, key)
    if hasattr(found, "model_dump"):
        return found.model_dump(mode="json")
    return list(found) if isinstance(found, tuple) else found
