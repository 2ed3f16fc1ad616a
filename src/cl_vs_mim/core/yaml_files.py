"""YAML of others: plain data only, bounded in size and depth however its aliases multiply, faults named by line.

A few lines of anchors and aliases, or of merge keys (``<<: *anchor``), can stand for more data than any memory holds.
What they stand for is therefore counted while the text is read, before anything is built of it.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.untrusted import read_text, reason

DECIDES_NO_RESULT = True

_NODES = 100_000  # values that a file may stand for, its aliases written out; config/paper.yaml has under a thousand
_DEPTH = 50
_MERGE = "tag:yaml.org,2002:merge"


class UniqueKeyLoader(yaml.SafeLoader):
    """Plain data. Of two equal keys YAML silently keeps the last; here the second is an error."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self._counts: dict[int, int] = {}  # values that a finished node stands for, by its id

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Every node passes here, an alias as well, for which the node of its anchor is given out again."""
        mark = self.peek_event().start_mark
        alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > _DEPTH:
            raise _fault(f"nested deeper than {_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if alias and id(node) not in self._counts:
            raise _fault("an alias of what it stands in", mark)
        if not alias:
            self._counts[id(node)] = 1 + sum(self._counts[id(part)] for part in _parts(node))
        if self._counts[id(node)] > _NODES:
            raise _fault(f"its aliases stand for more than {_NODES:,} values", mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value that is none of its kind, such as the 40th of May, is a fault of its line too."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
            raise _fault(reason(error), node.start_mark) from error


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _fault(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def construct_unique_mapping(loader: UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        merged = key_node.tag == _MERGE  # whose keys may be written again
        key = key_node.value if merged else loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable) or not isinstance(key_node, yaml.ScalarNode):
            raise _fault(
                "a list or mapping cannot be a key; brackets or braces want quotes around them", key_node.start_mark
            )
        if key in seen:
            raise _fault(f"the key {key!r} occurs twice", key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct_unique_mapping)


class YamlFault(ValueError):
    """What is wrong with a text that is not YAML, and in which line, counted from 1, where that is known."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.line = line


def parse_yaml(text: str, loader: type[UniqueKeyLoader] = UniqueKeyLoader) -> Any:
    """Plain data of a YAML text; ``loader`` may make more of it, such as the lines of its values.

    Raises:
        YamlFault: it is none.
    """
    try:
        return yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "something is wrong"
        said = f"{error.context}, {said}" if said.startswith("but ") else said
        raise YamlFault(said, mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        place = error.position if isinstance(error.position, int) else 0
        raise YamlFault("a control character, which no text has", text.count("\n", 0, place) + 1) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlFault(reason(error), None) from error


def read_yaml(path: Path, what: str = "config", loader: type[UniqueKeyLoader] = UniqueKeyLoader) -> dict[Any, Any]:
    """The mapping that a YAML file holds.

    Args:
        path: the file.
        what: how it is called in an error.
        loader: see :func:`parse_yaml`.

    Raises:
        UserError: it is no ordinary file, too large, no UTF-8, not valid YAML, or no mapping; with the line.
        FileNotFoundError: there is no such file.
    """
    try:
        raw = parse_yaml(read_text(path, "yaml"), loader)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{what} {path}, line {line}: not UTF-8 text; save it as UTF-8") from error
    except (OSError, YamlFault) as error:
        where = f", line {error.line}" if isinstance(error, YamlFault) and error.line else ""
        raise UserError(f"{what} {path}{where} is not valid YAML: {reason(error)}") from error
    if not isinstance(raw, dict):
        there = "is empty" if raw is None else "holds a list" if isinstance(raw, list) else "holds a single value"
        raise UserError(f"{what} {path} {there}; it should be a mapping of keys to values")
    return raw
