"""What every test starts from, the order of the files, and shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from workplace import Workplace

ROOT = Path(__file__).resolve().parent.parent
# The longest files, longest first: started last, one of them would keep one process busy and the others waiting.
FIRST = (
    "test_workflow_run.py",
    "test_pretrain_loop.py",
    "test_faults.py",
    "test_pretrain_processes.py",
)


def pytest_configure() -> None:
    """One of several processes computes on one core; otherwise they would wait for each other's threads."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test, with the fixtures it is the first to ask for, draws the same numbers in every run and any order."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """The smoke study in a folder of its own; test files give it sizes, data and their command."""
    return Workplace(tmp_path)
