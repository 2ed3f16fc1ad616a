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


def imports():
    """(importing module, imported module) of every import of the package, also of those inside functions."""
    for path in sorted(ROOT.rglob("*.py")):
        here = path.relative_to(ROOT).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from (
                (".".join(here), name.removeprefix("cl_vs_mim.")) for name in names if name.startswith("cl_vs_mim.")
            )


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
