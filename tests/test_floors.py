"""The house has seven floors: a module imports from its own floor or from those below, never from above."""

import ast
from pathlib import Path

import pytest

import cl_vs_mim

ROOT = Path(cl_vs_mim.__file__).parent
# Rooms from the ground up; rooms of one floor do not import each other.
FLOORS = [
    {"core"},
    {"metrics", "encoder"},
    {"config"},
    {"data", "figures"},
    {"pretrain", "evaluated", "audit"},
    {"transfer", "analysis"},
    {"cli"},
]
NEVER = [
    ("figures", "encoder"),
    ("audit", "encoder"),
    ("data", "encoder"),
    ("encoder", "pretrain"),
    ("encoder", "data"),
    ("analysis", "pretrain"),
    ("analysis", "transfer"),
    ("analysis", "figures"),
    ("pretrain", "analysis"),
    ("transfer", "figures"),
]


def imported(node, package):
    """Full names of what an import statement of a module in ``package`` imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    parts = package[: len(package) - node.level + 1] if node.level else []
    origin = ".".join([*parts, *filter(None, [node.module])])
    return [f"{origin}.{alias.name}" for alias in node.names] if origin == "cl_vs_mim" else [origin]


def imports():
    """(importing module, imported module) of every import of the package, also of those inside functions."""
    for path in sorted(ROOT.rglob("*.py")):
        here = path.relative_to(ROOT).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported(node, ("cl_vs_mim", *here[:-1])):
                if name.startswith("cl_vs_mim."):
                    yield ".".join(here), name.removeprefix("cl_vs_mim.")


def test_every_form_of_import_is_read():
    forms = {
        "import cl_vs_mim.data.images": "cl_vs_mim.data.images",
        "from cl_vs_mim import data": "cl_vs_mim.data",
        "from cl_vs_mim.data import images": "cl_vs_mim.data",
        "from . import fig04": "cl_vs_mim.figures",
        "from .style import save": "cl_vs_mim.figures.style",
        "from ..data import images": "cl_vs_mim.data",
        "from .. import data": "cl_vs_mim.data",
    }
    read = {form: imported(ast.parse(form).body[0], ("cl_vs_mim", "figures")) for form in forms}
    assert read == {form: [name] for form, name in forms.items()}


def room(module):
    return module.split(".")[0]


def test_no_import_runs_upwards():
    floor = {name: number for number, rooms in enumerate(FLOORS) for name in rooms}
    found = list(imports())
    assert len(found) > 200
    unknown = {room(module) for pair in found for module in pair} - set(floor)
    assert unknown <= {"__init__", "__main__"}, f"rooms without a floor: {sorted(unknown)}"
    upward = [
        f"{importer} -> {imported}"
        for importer, imported in found
        if room(importer) != room(imported)
        and room(importer) in floor
        and floor[room(importer)] <= floor[room(imported)]
    ]
    assert not upward, "imports of the same floor or of one above:\n" + "\n".join(upward)


@pytest.mark.parametrize("importer, imported", NEVER)
def test_rooms_that_know_nothing_of_each_other(importer, imported):
    found = [pair for pair in imports() if room(pair[0]) == importer and room(pair[1]) == imported]
    assert not found
