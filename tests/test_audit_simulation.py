"""The promises of the rules, kept in simulated studies; and what the published values and a planted null come to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.estimate import Estimate
from cl_vs_mim.audit.evidence import of_contrast
from cl_vs_mim.audit.rates import as_markdown, rate_plots
from cl_vs_mim.audit.simulate import KINDS, allowed, table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "audit_rates.md"

ASKED = load_claims(PAGE.parent.parent / "config" / "claims.yaml").simulation
REPLICATES = ASKED.replicates
SEEDS = (2, 3, 5, 10)
FALSE = 0.025  # support, or contradiction, where there is nothing: half of 1 - level
DIFFER = "one not moved by training (differ)"
FEW = "shares of few decisions"  # which are known no better than as few answers are


@pytest.fixture(scope="module")
def rates() -> pd.DataFrame:
    """The rows of the page of the documentation, drawn again."""
    return table(SEEDS, (0.0, 1.0, 3.0), REPLICATES, ASKED.seed, level=ASKED.level)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_called_something_no_oftener_than_promised(rates: pd.DataFrame, kind: str) -> None:
    nothing = rates[(rates["kind"] == kind) & (rates["effect"] == 0)]
    # to differ is asked either way, so that an encoder that was not moved passes on both sides
    assert nothing["supported"].max() <= allowed(2 * FALSE if kind == DIFFER else FALSE, REPLICATES)
    assert nothing["contradicted"].max() <= allowed(FALSE, REPLICATES)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_not_called_its_opposite_or_nothing(rates: pd.DataFrame, kind: str) -> None:
    there = rates[(rates["kind"] == kind) & (rates["effect"] > 0)]
    assert there["contradicted"].max() <= allowed(FALSE, REPLICATES)
    assert there["equivalent"].max() <= allowed(FALSE, REPLICATES)


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover(rates: pd.DataFrame, kind: str) -> None:
    """At least 95 % with three seeds or more; with two they do so in these studies, too."""
    found = rates[rates["kind"] == kind]
    assert found["coverage"].min() >= 1 - allowed(0.05, REPLICATES)


def test_three_seeds_miss_what_is_large_more_often_than_not(rates: pd.DataFrame) -> None:
    """The price of intervals that cover; the documentation says so."""
    (row,) = rates[(rates["kind"] == "one contrast") & (rates["seeds"] == 3) & (rates["effect"] == 3)].itertuples()
    assert 0.2 < row.supported < 0.5


@pytest.mark.parametrize("kind", ["one contrast", "one contrast, one encoder steady"])
def test_intervals_cover_with_any_number_of_seeds(kind: str) -> None:
    found = table(range(2, 11), (0.0,), REPLICATES, seed=8, kinds=[kind])
    assert found["coverage"].min() >= 1 - allowed(0.05, REPLICATES)


def test_what_is_large_is_found_with_five_seeds(rates: pd.DataFrame) -> None:
    there = rates[(rates["effect"] == 3) & (rates["kind"] != FEW)]
    large = there[there["seeds"] == 10].set_index("kind")["supported"]
    assert large.min() > 0.95, large
    assert (there[there["seeds"] == 5]["supported"] > 0.6).all()


def test_an_effect_that_matters_is_called_nothing_no_oftener_than_promised() -> None:
    """At the smallest effect itself, where it is called so most often, and surely where there is none."""
    rng, smallest, error = np.random.default_rng(11), 1.0, 0.2

    def called(truth: float) -> float:
        value = truth + rng.normal(0, error, (1, 20_000))
        study = Estimate(value, np.full_like(value, error), np.full_like(value, 1e7), np.full_like(value, np.nan))
        return float((of_contrast(study, 0.0, smallest).equivalence < 0.05).mean())

    assert called(smallest) <= allowed(FALSE, 20_000) and called(-smallest) <= allowed(FALSE, 20_000)
    assert called(0.0) > 0.99


def test_the_page_of_the_documentation_has_these_rows(rates: pd.DataFrame) -> None:
    """The same draws, so the same counts; two of a row's studies may fall on the other side by an ulp."""
    text = PAGE.read_text(encoding="utf-8")
    published = pd.DataFrame(
        [("C1", 3, 1.0, 0.0, 100)], columns=["claim", "seeds", "supported", "contradicted", "draws"]
    )
    page = as_markdown(rates, published, 0.95)
    assert page.splitlines()[:7] == text.splitlines()[:7]
    ours, theirs = _cells(page), _cells(text)
    assert ours.keys() == theirs.keys()
    for key, cells in ours.items():
        assert cells == pytest.approx(theirs[key], abs=200 / REPLICATES + 0.05), key  # percent


def _cells(page: str) -> dict[tuple[str, ...], list[float]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.endswith("% |")]
    return {tuple(row[:2]): [float(cell.removesuffix(" %")) for cell in row[2:]] for row in rows if row[1].isdigit()}


def test_every_kind_is_drawn_with_its_promise(rates: pd.DataFrame) -> None:
    plots = rate_plots(rates, 0.95)
    assert [name for name, _ in plots] == list(KINDS)
    for _, plot in plots:
        assert plot.count('class="rate"') == 3 and plot.count('class="promise"') == 1


def test_one_seed_speaks_of_no_other_training() -> None:
    """Why the rules ask for three: with one, what two trainings differ by is taken for an effect."""
    (row,) = table((1,), (0.0,), 1000, seed=7, kinds=["one contrast"]).to_dict("records")
    assert row["coverage"] < 0.5 and row["supported"] > 0.1
