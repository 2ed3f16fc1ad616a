"""Every number that ``docs/metrics.md`` states as the value of an expression is the value of that expression."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cl_vs_mim.metrics.attention import (
    attention_distance,
    attention_entropy,
    normalized_mutual_information,
    query_similarity,
)
from cl_vs_mim.metrics.fourier import frequencies
from cl_vs_mim.metrics.register import markdown_table, registered
from cl_vs_mim.metrics.yardstick import uniform_attention_distance

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
STATED = re.findall(r"`([^`]+\))` = (-?\d+(?:\.\d+)?)", PAGE.read_text())


def with_cls(patches: Tensor) -> Tensor:
    """(N, N) rows as a map (1, 1, 1+N, 1+N) that gives half of its attention to CLS."""
    maps = torch.zeros(1, 1, len(patches) + 1, len(patches) + 1)
    maps[..., 0, :] = 1 / (len(patches) + 1)
    maps[..., 1:, 0] = 0.5
    maps[0, 0, 1:, 1:] = patches / 2
    return maps


def uniform(grid: int) -> Tensor:
    return with_cls(torch.full((grid**2, grid**2), 1 / grid**2))


def identity(grid: int) -> Tensor:
    return with_cls(torch.eye(grid**2))


def one_key(grid: int) -> Tensor:
    return with_cls(torch.eye(grid**2)[:1].expand(grid**2, -1))


NAMES = {
    function.__name__: function
    for function in (
        attention_distance,
        attention_entropy,
        frequencies,
        identity,
        normalized_mutual_information,
        one_key,
        query_similarity,
        uniform,
        uniform_attention_distance,
    )
}


@pytest.mark.parametrize(("expression", "stated"), STATED)
def test_stated_value(expression: str, stated: str) -> None:
    digits = len(stated.partition(".")[2])
    value = eval(expression, {"__builtins__": {"float": float}}, NAMES)
    assert abs(value - float(stated)) <= 0.5 * 10**-digits + 1e-5


def test_the_page_states_values_and_covers_every_table() -> None:
    assert len(STATED) >= 10
    text = PAGE.read_text()
    sections = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    }
    linked = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert linked and linked <= sections, linked - sections


def test_the_page_lists_every_metric_of_the_tables_as_it_is_registered() -> None:
    _, _, rest = PAGE.read_text().partition("<!-- metrics -->\n")
    shown, _, _ = rest.partition("<!-- end of metrics -->")
    assert shown == markdown_table(registered())
