"""A short attack on all readers of files of others, the same in every run; ``make fuzz MINUTES=10`` is the long one."""

from __future__ import annotations

import pytest

from fuzzing import READERS, attack

EXAMPLES = {"checkpoint": 60, "image": 150, "annotation": 150, "yaml": 25, "table": 100}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_or_refuses(name: str) -> None:
    counts = attack(name, EXAMPLES[name], start=0)
    assert sum(counts.values()) >= EXAMPLES[name] // 2 and counts["refused"]
