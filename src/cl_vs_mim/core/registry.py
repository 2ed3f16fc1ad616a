"""Registers: objectives, families, figures and tasks are found by name in the modules that define them.

A module that defines such a thing binds it to the register's mark (``OBJECTIVE = …``, ``FIGURE = …``). Nothing lists
the modules: the register looks for the mark in the sources of its package, and imports a module when it is first asked
for. A user's own come from installed packages, as entry points of the group ``cl_vs_mim.<kind>``, or from files and
folders that a study names as its extensions. :meth:`Register.of` gives a register for that study and leaves the one it
was made from as it is, so that no study sees another's. Where there is no study, as in an encoder that is built from
its specification, a register has what the command at work was given, by :func:`using`.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from cl_vs_mim.core.errors import UserError, nearest

DECIDES_NO_RESULT = True  # it finds modules; those that are found decide

_IN_USE: ContextVar[tuple[Path, ...]] = ContextVar("extensions", default=())


@contextmanager
def using(places: Iterable[Path]) -> Iterator[None]:
    """Within it, every register has what these files, and the files of these folders, define besides.

    It is entered around the checking of a study and around a command; those of an outer ``using`` do not count.
    """
    token = _IN_USE.set(tuple(Path(place) for place in places))
    try:
        yield
    finally:
        _IN_USE.reset(token)


def in_use() -> tuple[Path, ...]:
    """The files and folders of :func:`using`; none outside it."""
    return _IN_USE.get()


@dataclass(frozen=True)
class Register:
    """Things of one kind by name.

    Attributes:
        kind: in words, such as ``objective``; also the group of entry points, ``cl_vs_mim.<kind>``.
        package: where the project's own are, a module (or sub-package) each, named as the thing is.
        mark: what the module binds the thing to.
        extensions: files of a study's own, named as the thing is, and folders of such; None: those :func:`in_use`.
    """

    kind: str
    package: str
    mark: str
    extensions: tuple[Path, ...] | None = None

    def extended(self, places: Iterable[Path]) -> Register:
        """This register with what a study's files, and the files of its folders, define besides.

        Raises:
            UserError: one of the places does not exist, or one of the names is taken.
        """
        register = replace(self, extensions=tuple(places))
        register.modules()
        return register

    def of(self, study: Any) -> Register:
        """This register with the extensions of a study (:class:`cl_vs_mim.config.Study`) and of no other."""
        return self.extended(study.extensions)

    def modules(self) -> dict[str, str]:
        """Name -> full name of its module, or the path of its file; none of them imported, the project's own first.

        Raises:
            UserError: an extension does not exist, or its name is taken or none that a thing may have.
        """
        points = installed(f"cl_vs_mim.{self.kind}")
        found = _own(self.package, self.mark) | points
        for path in extension_files(in_use() if self.extensions is None else self.extensions):
            if not _binds(path, self.mark):
                continue
            if not path.stem.isidentifier():
                raise UserError(
                    f"extension {path}: the {self.kind} is named as its file is, which takes letters, digits and "
                    "underscores only; rename the file"
                )
            if path.stem in found:
                raise UserError(
                    f"extension {path}: {self.kind} {path.stem!r} exists already; give the file another name"
                )
            found[path.stem] = str(path)
        return found

    def names(self) -> list[str]:
        """All names."""
        return list(self.modules())

    def module(self, name: str) -> str:
        """Full name of the module that defines ``name``, or the path of its file; both serve :mod:`.closure`.

        Raises:
            UserError: nobody does; the nearest name is given.
        """
        modules = self.modules()
        if name not in modules:
            raise UserError(f"there is no {self.kind} {name!r}{nearest(name, modules)}")
        return modules[name]

    def __getitem__(self, name: str) -> Any:
        """What the module of ``name`` binds to the mark.

        Raises:
            UserError: there is no such module.
        """
        return getattr(load(self.module(name)), self.mark)


# ------------------------------------------------------------------------------------------------
# Modules
# ------------------------------------------------------------------------------------------------


def installed(group: str) -> dict[str, str]:
    """Name -> what it stands for, of the entry points that installed packages have in this group."""
    return dict(_installed(group, tuple(sys.path)))


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    # Asked thousands of times by one plan of the workflow, and every answer reads the metadata of all packages.
    return tuple((point.name, point.value) for point in entry_points(group=group))


def load(place: str) -> ModuleType:
    """The module of this full name, or of this file (``….py``).

    A file is imported once, under a name made from its path: two studies may have files of the same name.
    """
    if not place.endswith(".py"):
        return import_module(place)
    path = Path(place).resolve()
    name = f"cl_vs_mim_extension_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None, path
        sys.modules[name] = module = module_from_spec(spec)  # before it runs: its dataclasses look for it there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def extension_files(places: Iterable[Path]) -> list[Path]:
    """The Python files of a study's extensions, as absolute paths: of folders those directly in them, in order.

    One that is named twice, by itself and by its folder, is there once.

    Raises:
        UserError: one of the places does not exist.
    """
    files: list[Path] = []
    for place in (Path(place).resolve() for place in places):
        if place.is_dir():
            files += sorted(place.glob("*.py"))
        elif place.is_file() and place.suffix == ".py":
            files.append(place)
        else:
            raise UserError(f"extensions: {place} is neither a folder nor a Python file")
    return list(dict.fromkeys(files))


@cache
def _own(package: str, mark: str) -> dict[str, str]:
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, package
    folder = Path(next(iter(spec.submodule_search_locations)))
    places = [(path.stem, path) for path in folder.glob("*.py")]
    places += [(path.parent.name, path) for path in folder.glob("*/__init__.py")]
    return {name: f"{package}.{name}" for name, path in sorted(places) if _binds(path, mark)}


def _binds(path: Path, mark: str) -> bool:
    return re.search(rf"^{mark}\b[^=\n]*=", path.read_text("utf-8"), re.MULTILINE) is not None
