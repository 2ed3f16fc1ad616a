"""Where in which file a key of a study stands, so that a message can name the line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

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
