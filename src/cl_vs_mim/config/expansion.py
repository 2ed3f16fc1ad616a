"""What a study's YAML says once and uses more than once, written out in all its places before anything is checked.

``like: PLACE``  in any section: the keys of the section at that place, and those beside ``like`` instead of or besides
                 them. A place is a path in the same file, such as ``models.simmim.objective``, or a recipe beside it:
                 ``recipes/dino`` is ``config/recipes/dino.yaml``, ``recipes/dino.objective`` a part of that. Sections
                 within are merged key by key; lists are replaced.
``views:``       at the top of the file: augmented views by name; a list of views may name them.
``training:``    at the top of the file: parts of the optimisation by name, for ``like: training.NAME``.

What is named and not used is an error, because nothing would check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_vs_mim.config.places import PlacedList, PlacedMapping, placed, places_of, read_placed
from cl_vs_mim.core.errors import UserError, nearest

_LIKE, _VIEWS, _TRAINING = "like", "views", "training"
_RECIPES = "recipes/"
_NODES, _CHAIN = 100_000, 15  # values written out, and steps from like to like: as many as nobody writes


def expand(raw: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """The study with every ``like`` and every named view written out; what it has no names for stays as it is.

    Args:
        raw: the YAML as it is read.
        folder: the study's folder, where the recipes lie too; None: there are no recipes.

    Raises:
        UserError: a place or a view does not exist (the nearest one is named), a section is like itself, or something
            that is named at the top is used nowhere.
    """
    expansion = _Expansion(raw, folder)
    names = {key: raw[key] for key in (_VIEWS, _TRAINING) if isinstance(raw.get(key), dict)}
    try:
        study = PlacedMapping(
            {key: expansion.written_out(value, str(key), ()) for key, value in raw.items() if key not in names}
        )
    except RecursionError as error:
        raise UserError(f"what is {_LIKE!r} something else is nested too deeply") from error
    study.places = places_of(raw)
    for key, named in names.items():
        if unused := [f"{key}.{name}" for name in named if f"{key}.{name}" not in expansion.used]:
            raise UserError(f"{', '.join(unused)}: used nowhere; leave it out")
    return study


class _Expansion:
    """One study being written out; remembers which names were used."""

    def __init__(self, raw: Mapping[str, Any], folder: Path | None) -> None:
        self.raw, self.folder = raw, folder
        self.used: set[str] = set()
        self._recipes: dict[str, Any] = {}
        self._count = 0

    def written_out(self, node: Any, here: str, behind: tuple[str, ...]) -> Any:
        """``node``, which stands at the place ``here``; ``behind`` are the places it is being taken to."""
        self._count += 1
        if self._count > _NODES:
            raise UserError(f"{here}: what is {_LIKE!r} something else comes to more than {_NODES:,} values")
        if len(behind) > _CHAIN:
            raise UserError(f"{here}: {_LIKE!r} leads from section to section more than {_CHAIN} times")
        if isinstance(node, list):
            names = here.rpartition(".")[2] == _VIEWS
            places = {f"{here}.{number}": item for number, item in enumerate(node)}
            items = [
                self._view(item, place, behind)
                if names and isinstance(item, str)
                else self.written_out(item, place, behind)
                for place, item in places.items()
            ]
            return placed(PlacedList(items), places_of(node).items())
        if not isinstance(node, dict):
            return node
        own = PlacedMapping(
            {key: self.written_out(value, f"{here}.{key}", behind) for key, value in node.items() if key != _LIKE}
        )
        own.places = places_of(node)
        if _LIKE not in node:
            return own
        place = str(node[_LIKE])
        if place in behind:
            raise UserError(f"{here}.{_LIKE}: {place!r} is like itself")
        model = self.written_out(self._at(place, f"{here}.{_LIKE}"), place, (*behind, place))
        if not isinstance(model, dict):
            raise UserError(f"{here}.{_LIKE}: {place!r} is a value, not a section")
        return _merged(model, own)

    def _view(self, name: str, here: str, behind: tuple[str, ...]) -> Any:
        views = self.raw.get(_VIEWS) or {}
        if name not in views:
            raise UserError(f"{here}: there is no view {name!r} under views{nearest(name, views)}")
        self.used.add(f"{_VIEWS}.{name}")
        return self.written_out(views[name], f"{_VIEWS}.{name}", (*behind, f"{_VIEWS}.{name}"))

    def _at(self, place: str, here: str) -> Any:
        if place.startswith(_RECIPES):
            recipe, _, inner = place.partition(".")
            return _walk(self._recipe(recipe, here), inner, here, f"recipe {recipe.removeprefix(_RECIPES)!r}")
        self.used.add(".".join(place.split(".")[:2]))
        return _walk(self.raw, place, here, "this file")

    def _recipe(self, place: str, here: str) -> Any:
        if self.folder is None:
            raise UserError(f"{here}: {place!r} cannot be found without the study's file")
        if place not in self._recipes:
            folder = self.folder / _RECIPES
            known = {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")}
            name = place.removeprefix(_RECIPES)
            if name not in known:
                raise UserError(f"{here}: there is no recipe {name!r} in {folder}{nearest(name, known)}")
            path = folder / f"{name}.yaml"
            self._recipes[place] = _of_file(read_placed(path, "recipe"), f"{place}.yaml")
        return self._recipes[place]


def _of_file(node: Any, file: str) -> Any:
    """What was read from another file than the study's, whose places name that file."""
    if isinstance(node, PlacedMapping | PlacedList):
        node.places = {part: f"{file}, {place}" for part, place in node.places.items()}
        for inner in node.values() if isinstance(node, dict) else node:
            _of_file(inner, file)
    return node


def _merged(model: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The model's keys and one's own, which win; sections on both sides are merged in the same way."""
    merged = PlacedMapping(model)
    merged.places = places_of(model) | places_of(own)
    for key, value in own.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _walk(node: Any, place: str, here: str, where: str) -> Any:
    walked: list[str] = []
    for part in place.split(".") if place else ():
        known = node if isinstance(node, dict) else {}
        walked.append(part)
        if part not in known:
            raise UserError(f"{here}: there is no {'.'.join(walked)!r} in {where}{nearest(part, map(str, known))}")
        node = known[part]
    return node
