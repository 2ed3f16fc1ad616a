"""A second reader of imports: of compiled modules, where ``core/closure.py`` reads their syntax trees.

A closure that misses an import would have to be wrong in both, in two different ways, to go unnoticed.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import cl_vs_mim

PACKAGE = "cl_vs_mim"
ROOT = Path(cl_vs_mim.__file__).parent


@cache
def all_modules() -> dict[str, Path]:
    """Every module of the package, packages included, by its full name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join([PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


@cache
def compiled(module: str) -> CodeType:
    """What Python makes of a module; it is not run."""
    path = all_modules()[module]
    return compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)


@cache
def decides(module: str) -> bool:
    """Whether neither the module nor a package around it says that it decides no result."""
    parts = module.split(".")
    around = [".".join(parts[: count + 1]) for count in range(1, len(parts))]
    return not any("DECIDES_NO_RESULT" in compiled(name).co_names for name in around)


def reached(modules: Iterable[str]) -> set[str]:
    """These modules and those that they import, through others too, as far as they decide results."""
    found: set[str] = set()
    new = set(filter(decides, modules))
    while new:
        found |= new
        new = {name for module in new for name in _imported(compiled(module)) if decides(name)} - found
    return found


def imported_by(function: Callable[..., Any]) -> set[str]:
    """Modules that a function imports, and the functions beside it that it calls."""
    found = set(_imported(function.__code__))
    for step in dis.get_instructions(function):
        beside = function.__globals__.get(step.argval) if step.opname == "LOAD_GLOBAL" else None
        if isinstance(beside, FunctionType) and beside.__module__ == function.__module__:
            found |= imported_by(beside)
    return found


@cache
def _imported(code: CodeType) -> frozenset[str]:
    """Modules of the package that a piece of code imports, wherever in it."""
    found = set()
    for part in _inside(code):
        pushed: list[Any] = []
        for step in dis.get_instructions(part):
            if step.opname == "IMPORT_NAME" and step.argval.split(".")[0] == PACKAGE:
                level, names = pushed[-2:]
                assert level == 0, "the package has no relative imports"
                inner = {f"{step.argval}.{name}" for name in names or ()}
                submodules = inner & set(all_modules())
                found |= submodules if inner and inner == submodules else submodules | {step.argval}
            pushed.append(step.argval)
    return frozenset(found - {PACKAGE})


def _inside(code: CodeType) -> Iterator[CodeType]:
    """A piece of code, and all functions and classes in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inside(constant)
