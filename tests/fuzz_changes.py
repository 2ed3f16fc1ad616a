"""How the files that nobody would write are made: bytes of whole files changed, or values of plain data."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

ODD_NUMBERS = [
    0,
    1,
    -1,
    2,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32,
    2**63,
    2**64,
    10**30,
    10**400,
    -(10**18),
    0.5,
    1e308,
    1e-320,
]
odd_values: SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, "", "x", "../x", "\0", "é", "nan", *ODD_NUMBERS, float("nan"), float("inf")])
    | st.integers()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


class Wholes(list):
    """Whole files, which hypothesis does not print where it describes an example."""

    def __repr__(self) -> str:
        return f"<{len(self)} whole files>"


def damaged(wholes: list[bytes]) -> SearchStrategy[bytes]:
    """See :func:`_damaged`."""
    return _damaged(Wholes(wholes))


@st.composite
def _damaged(draw: Any, wholes: Wholes) -> bytes:
    """One of the whole files with one to six changes: bytes set, cut out, doubled, put in; numbers of 4 bytes set."""
    content = bytearray(wholes[draw(st.integers(0, len(wholes) - 1))])
    near = draw(st.sampled_from([64, 512, 1 << 30]))  # headers are small, and most faults are in them
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, min(len(content), near) - 1)))
        kind = draw(st.sampled_from(["set", "flip", "cut", "end", "double", "put", "number"]))
        if kind == "set":
            content[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "flip" and place < len(content):
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[place : place + draw(st.integers(1, 40))]
        elif kind == "end":
            del content[place:]
        elif kind == "double":
            content[place:place] = content[place : place + draw(st.integers(1, 200))]
        elif kind == "put":
            content[place:place] = draw(st.binary(min_size=1, max_size=12))
        else:
            order = draw(st.sampled_from(["little", "big"]))
            content[place : place + 4] = draw(st.integers(0, 2**32 - 1)).to_bytes(4, order)
    return bytes(content)


@st.composite
def altered(draw: Any, whole: Any) -> Any:
    """Plain data with one to four of its values, at any depth, replaced, left out, renamed or doubled."""
    data = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 4))):
        node, key = {"root": data}, "root"
        while isinstance(node[key], dict | list) and len(node[key]) and draw(st.integers(0, 5)):
            node = node[key]
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        if key == "root":
            continue
        kind = draw(st.sampled_from(["odd", "odd", "odd", "out", "twice", "elsewhere"]))
        if kind == "odd":
            node[key] = draw(odd_values)
        elif kind == "out":
            del node[key]
        elif kind == "twice" and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif isinstance(node, dict):
            node[draw(st.sampled_from(["x", "id", "name"]))] = node.pop(key)
    return data
