"""The register of metrics: a function says itself which table its values go into, from what, in which unit and range.

    @metric(table="attention", takes="attention", per="head", unit="", range=(0, 1), figure="4")
    def my_metric(attention): ...

is all that it takes: the streaming pass measures it, the table holds it under its name, and ``docs/metrics.md`` lists
it. The decorated function stays a plain function. Your own metrics are in a module of an installed package that
is named as an entry point of the group ``cl_vs_mim.metric``, or in a file of a study's extensions.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cl_vs_mim.core.registry import extension_files, in_use, installed, load

# What a metric may take of an encoder, and at which depths there is such a thing.
INSIDE = ("before", "attention", "head_outputs", "after_attention", "after_mlp")  # of a block: depths 1 … L
HALF_BLOCKS = "tokens"  # of the embedding, then after every half block: depths 0, 1/2, 1 … L
WHOLE_BLOCKS = "block_tokens"  # of the embedding, then after every block: depths 0, 1 … L

_ATTRIBUTE = "registered_metrics"
_OWN = Path(__file__).parent
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """One metric of one table; one function may be several, of different tensors.

    Attributes:
        name: its name in the table's column ``metric``.
        function: what is measured. Its first parameters get what ``takes`` names; any others are filled from the
            fields of the encoder's specification that they are named after, such as ``patch_size``.
        table: the table that the values go into; empty for what is only kept for other metrics.
        takes: tensors of a block (:data:`INSIDE`), the tokens (:data:`HALF_BLOCKS` or :data:`WHOLE_BLOCKS`), or names
            of other metrics. The latter are given for all images at once, (M, …) arrays of one depth, after the pass.
        per: what a value is of besides image and depth: ``head``, ``rank``, ``frequency``; ``image`` if nothing else.
        unit: in words; empty for a bare number.
        range: smallest and largest value there can be.
        figure: number of the paper's figure.
        least: the smallest specification that it is defined on, such as ``{"heads": 2}``.
    """

    name: str
    function: Callable[..., Any]
    table: str
    takes: tuple[str, ...]
    per: str
    unit: str
    range: tuple[float, float]
    figure: str
    least: Mapping[str, int] = field(default_factory=dict)

    @property
    def inside(self) -> bool:
        """Whether it is measured on what happens inside a block."""
        return set(self.takes) <= set(INSIDE)

    @property
    def streamed(self) -> bool:
        """Whether it is measured while the encoder runs, and not on values of other metrics afterwards."""
        return self.inside or self.takes in ((HALF_BLOCKS,), (WHOLE_BLOCKS,))

    def bound(self, spec: Any) -> Callable[..., Any]:
        """The function with the parameters that come from an encoder's specification filled in."""
        more = list(inspect.signature(self.function).parameters)[len(self.takes) :]
        known = {name: getattr(spec, name) for name in more if hasattr(spec, name)}
        return (lambda *given: self.function(*given, **known)) if known else self.function

    def applies_to(self, spec: Any) -> bool:
        """Whether it is defined on encoders of this specification."""
        return all(getattr(spec, name) >= least for name, least in self.least.items())


def metric(
    *,
    table: str,
    takes: str | tuple[str, ...],
    per: str = "image",
    unit: str = "",
    range: tuple[float, float] = (-math.inf, math.inf),
    figure: str = "",
    name: str | None = None,
    least: Mapping[str, int] | None = None,
) -> Callable[[_Function], _Function]:
    """Register a function as a metric; the arguments are those of :class:`Metric`.

    Args:
        table: see there.
        takes: see there; one name or several.
        per: see there.
        unit: see there.
        range: see there.
        figure: see there.
        name: the metric's name; the function's own by default.
        least: see there.

    Raises:
        ValueError: tensors of a block and tokens are asked for together.
    """

    def register(function: _Function) -> _Function:
        wanted = (takes,) if isinstance(takes, str) else tuple(takes)
        one = Metric(name or function.__name__, function, table, wanted, per, unit, range, figure, dict(least or {}))
        streams = {*INSIDE, HALF_BLOCKS, WHOLE_BLOCKS}
        if not one.streamed and streams & set(wanted):
            raise ValueError(f"metric {one.name!r} takes {', '.join(wanted)}, which are not there at the same time")
        # Decorators apply from the innermost outwards; the order of reading is that of the table.
        setattr(function, _ATTRIBUTE, (one, *getattr(function, _ATTRIBUTE, ())))
        return function

    return register


# ------------------------------------------------------------------------------------------------
# All there are
# ------------------------------------------------------------------------------------------------


def metric_modules() -> list[str]:
    """Full names of the modules that define metrics, none of them imported; the project's own first.

    Last come the paths of the extensions in use (:func:`cl_vs_mim.core.registry.using`) that define some.
    """
    marked = re.compile(r"^@metric\(", re.MULTILINE)
    own = [path.stem for path in sorted(_OWN.glob("*.py")) if marked.search(path.read_text(encoding="utf-8"))]
    found = [f"{__package__}.{name}" for name in own]
    found += installed("cl_vs_mim.metric").values()
    return found + [str(path) for path in extension_files(in_use()) if marked.search(path.read_text(encoding="utf-8"))]


def named_metrics() -> dict[str, str]:
    """The metrics' names and the table of each, read from the modules' text: none is imported, nor is torch."""
    found = {}
    for module in metric_modules():
        spec = None if module.endswith(".py") else importlib.util.find_spec(module)
        path = Path(module) if spec is None or spec.origin is None else Path(spec.origin)
        text = path.read_text(encoding="utf-8")
        for function in (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)):
            for mark in function.decorator_list:
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "metric":
                    given = {one.arg: getattr(one.value, "value", None) for one in mark.keywords}
                    found[given.get("name") or function.name] = given.get("table") or ""
    return found


def registered(modules: Iterable[str] | None = None) -> dict[str, Metric]:
    """All metrics by name, in the order of their modules and of the functions in each.

    Args:
        modules: the modules to read, by full names or paths; all by default.

    Raises:
        ValueError: two metrics have one name, or one takes a metric that does not exist.
    """
    found: dict[str, Metric] = {}
    for module in metric_modules() if modules is None else modules:
        loaded = load(module)
        for thing in vars(loaded).values():
            for one in getattr(thing, _ATTRIBUTE, ()) if getattr(thing, "__module__", "") == loaded.__name__ else ():
                if one.name in found:
                    raise ValueError(f"two metrics are called {one.name!r}, one of them in {module}")
                found[one.name] = one
    for one in found.values():
        unknown = [name for name in one.takes if not one.streamed and name not in found]
        if unknown:
            raise ValueError(f"metric {one.name!r} takes {', '.join(unknown)}, which no metric measures")
    return found


def metrics_of(*functions: Callable[..., Any]) -> dict[str, Metric]:
    """What these registered functions are as metrics, by name."""
    return {one.name: one for function in functions for one in getattr(function, _ATTRIBUTE, ())}


def markdown_table(metrics: Mapping[str, Metric]) -> str:
    """The metrics that go into tables as a table for readers, one a line; ``docs/metrics.md`` holds it."""
    lines = ["| name | table | one value for each | unit | range | figure |", "|---|---|---|---|---|---|"]
    for one in metrics.values():
        if one.table:
            low, high = (f"{bound:g}".replace("inf", "∞").replace("-", "−") for bound in one.range)
            per = "image and depth" if one.per == "image" else f"image, depth and {one.per}"
            per = per.removeprefix("image, ") if one.takes == ("token_mean",) else per  # of all images together
            lines.append(
                f"| `{one.name}` | `{one.table}` | {per} | {one.unit or '–'} | {low} … {high} | {one.figure} |"
            )
    return "\n".join(lines) + "\n"
