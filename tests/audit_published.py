"""The paper's study and its published values, for the tests of the audit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cl_vs_mim.audit.replication import PublishedTables, at_papers_scale
from cl_vs_mim.config import Study, load_study

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference" / "reference_values.csv"
PAPER = load_study(ROOT / "config" / "paper.yaml")


def study(count: int = 8) -> Study:
    """The paper's study with this many seeds of all."""
    return at_papers_scale(PAPER, count)


def tables(of: Study, seed: int, **options) -> PublishedTables:
    """The published values with noise."""
    return PublishedTables(of, REFERENCE, seed, **options)


exactly = partial(tables, exact=True)  # the mean over seeds and images is the published value itself
