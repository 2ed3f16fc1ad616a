"""Where in which file a key of a study stands, so that a message can name the line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cl_vs_mim.core.yaml_files import UniqueKeyLoader, construct_unique_mapping, read_yaml

DECIDES_NO_RESULT = True

C = TypeVar("C", bound="PlacedMapping | PlacedList")


class PlacedMapping(dict[Any, Any]):
    """A mapping read from a file; :attr:`places` has the place of each key."""

    places: Mapping[Any, str]


class PlacedList(list[Any]):
    """A list read from a file; :attr:`places` has the place of each item."""

    places: Mapping[Any, str]


def placed(container: C, places: Iterable[tuple[Any, str]]) -> C:
    """The container with the places of its parts."""
    container.places = dict(places)
    return container


def places_of(container: Any) -> dict[Any, str]:
    """Where the parts of a mapping or a list stand; empty where nobody knows."""
    return dict(getattr(container, "places", {}))


def place_of(path: Iterable[Any], raw: Any) -> str | None:
    """Where the last part of a path that stands in a file stands, such as ``line 12``; None: nobody knows."""
    found, node = None, raw
    for part in path:
        if isinstance(node, list) and str(part).isdigit():
            part = int(part)
        if not isinstance(node, dict | list):
            break
        known = part < len(node) if isinstance(node, list) and isinstance(part, int) else part in node
        if not known:
            break
        found = places_of(node).get(part, found)
        node = node[part]
    return found


def with_place(message: str, raw: Any) -> str:
    """A message that begins with a dotted key, after the line where that key stands."""
    key, colon, _ = message.partition(":")
    place = place_of(key.split("."), raw) if colon and " " not in key else None
    return f"{place}: {message}" if place else message


class PlacedLoader(UniqueKeyLoader):
    """Plain data that knows the lines of its keys and items."""


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _construct_mapping(loader: PlacedLoader, node: yaml.MappingNode) -> PlacedMapping:
    values = construct_unique_mapping(loader, node)
    places = ((loader.construct_object(key), _line(key)) for key, _ in node.value)  # with those merged into it
    return placed(PlacedMapping(values), places)


def _construct_list(loader: PlacedLoader, node: yaml.SequenceNode) -> PlacedList:
    values = yaml.SafeLoader.construct_sequence(loader, node, deep=True)
    return placed(PlacedList(values), enumerate(map(_line, node.value)))


PlacedLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
PlacedLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _construct_list)


def read_placed(path: Path, what: str = "config") -> PlacedMapping:
    """The mapping that a YAML file holds, with places; errors as of :func:`cl_vs_mim.core.yaml_files.read_yaml`."""
    raw = read_yaml(path, what, PlacedLoader)
    return raw if isinstance(raw, PlacedMapping) else PlacedMapping(raw)  # a tag may ask for another mapping
