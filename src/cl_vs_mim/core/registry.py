"""Registers: objectives, families, figures and tasks are found by name in the modules that define them.

A module that defines such a thing binds it to the register's mark (``OBJECTIVE = …``, ``FIGURE = …``). Nothing lists
the modules: the register looks for the mark in the sources of its package, and imports a module when it is first asked
for. A user's own come from installed packages, as entry points of the group ``cl_vs_mim.<kind>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cl_vs_mim.core.errors import UserError, nearest


@dataclass(frozen=True)
class Register:
    """Things of one kind by name.

    Attributes:
        kind: in words, such as ``objective``; also the group of entry points, ``cl_vs_mim.<kind>``.
        package: where the project's own are, a module (or sub-package) each, named as the thing is.
        mark: what the module binds the thing to.
    """

    kind: str
    package: str
    mark: str

    def modules(self) -> dict[str, str]:
        """Name -> full name of its module, none of them imported; the project's own first."""
        return _own(self.package, self.mark) | {
            point.name: point.value for point in entry_points(group=f"cl_vs_mim.{self.kind}")
        }

    def names(self) -> list[str]:
        """All names."""
        return list(self.modules())

    def module(self, name: str) -> str:
        """Full name of the module that defines ``name``.

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
        return getattr(import_module(self.module(name)), self.mark)


@cache
def _own(package: str, mark: str) -> dict[str, str]:
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, package
    folder = Path(next(iter(spec.submodule_search_locations)))
    bound = re.compile(rf"^{mark}\b[^=\n]*=", re.MULTILINE)
    places = [(path.stem, path) for path in folder.glob("*.py")]
    places += [(path.parent.name, path) for path in folder.glob("*/__init__.py")]
    return {name: f"{package}.{name}" for name, path in sorted(places) if bound.search(path.read_text("utf-8"))}
