"""Turning a faulty YAML into messages a person can act on: the dotted key, what is wrong, the nearest valid key."""

from __future__ import annotations

import re
import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from cl_vs_mim.config.objective import ObjectiveConfig, config_of
from cl_vs_mim.config.places import with_place
from cl_vs_mim.config.transfer import BuiltFrom
from cl_vs_mim.core.errors import nearest

# ------------------------------------------------------------------------------------------------
# Messages
# ------------------------------------------------------------------------------------------------


def describe(detail: ErrorDetails, raw: dict[str, Any], root: type[BaseModel]) -> str:
    """One line for one pydantic error: line and dotted key, what is wrong, and the nearest valid key or name."""
    return with_place(_described(detail, raw, root), raw)


def _described(detail: ErrorDetails, raw: dict[str, Any], root: type[BaseModel]) -> str:
    location = _real_path(detail["loc"], raw, missing=detail["type"] == "missing")
    where = ".".join(map(str, location))
    if detail["type"] == "extra_forbidden":
        valid = _valid_keys(location[:-1], raw, root)
        return f"{where}: unknown key{nearest(str(location[-1]), valid)}"
    if detail["type"] == "missing":
        return f"{where}: this key is missing"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    if detail["type"] == "literal_error" and isinstance(given, str):
        return f"{where}: {given!r} is unknown{nearest(given, _names(detail['ctx']['expected']))}"
    if isinstance(given, dict):  # a check across several keys: its message names them
        return (
            f"{where}.{message}" if where and _is_key(message, given) else f"{where}: {message}" if where else message
        )
    return f"{where}: {message} (given: {given!r})"


def _names(expected: str) -> list[str]:
    """Of ``'a', 'b' or 'c'`` the three."""
    return re.findall(r"'([^']*)'", expected)


def _is_key(message: str, section: dict[str, Any]) -> bool:
    """Whether a message begins with a key of the section, and goes on with what is wrong with it."""
    key, colon, _ = message.partition(":")
    return bool(colon) and key.partition(".")[0] in section


def _real_path(location: tuple[Any, ...], raw: Any, missing: bool = False) -> list[Any]:
    """Drop the names of types that pydantic puts into an error's location and that are no keys of the YAML.

    Args:
        location: as pydantic gives it.
        raw: the YAML.
        missing: whether the last part is a key that should be there.
    """
    path: list[Any] = []
    node = raw
    for index, part in enumerate(location):
        last = index == len(location) - 1
        is_key = isinstance(node, dict) and part in node
        is_item = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if is_key or is_item:
            node = node[part]
        elif not (last and missing):
            continue
        path.append(part)
    return path


def _valid_keys(location: list[Any], raw: Any, root: type[BaseModel]) -> list[str]:
    """Keys that the section at ``location`` knows, found by walking the types along the path."""
    section: Any = root
    node = raw
    for part in location:
        node = node[part]
        annotation = section.model_fields[part].annotation if _is_section(section) else _inner(section)
        section = _resolve(annotation, node)
    return list(section.model_fields) if _is_section(section) else []


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inner(annotation: Any) -> Any:
    return typing.get_args(annotation)[-1] if typing.get_args(annotation) else annotation


def _resolve(annotation: Any, node: Any) -> Any:
    """Reduce ``X | None`` and unions of sections to the one that ``node`` means."""
    annotation = _plain(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = (_plain(kind) for kind in typing.get_args(annotation))
        sections = [kind for kind in members if _is_section(kind)]
        if not sections:
            return annotation
        keys = set(node) if isinstance(node, dict) else set()
        annotation = max(sections, key=lambda kind: len(keys & set(kind.model_fields)))  # the first of equals
    return config_of(node["method"]) if annotation is ObjectiveConfig else annotation


def _plain(annotation: Any) -> Any:
    while typing.get_origin(annotation) is Annotated:
        annotation, *marks = typing.get_args(annotation)
        annotation = next((mark.build() for mark in marks if isinstance(mark, BuiltFrom)), annotation)
    return annotation
