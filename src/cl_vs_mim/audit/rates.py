"""The rules' error rates for readers: a picture of every kind of claim for the page, a table for the documentation."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 300, 130  # of a view box; the page scales it
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 292, 8, 106
_SHADES = (0.25, 1.0)  # opacity of the smallest and the largest effect
_MOSTLY = 0.9  # of the studies: what counts as being found at this number of seeds
_SHOWN_SEEDS, _SHOWN_EFFECTS = (2, 3, 5, 10), (0.0, 1.0, 3.0)  # of the documentation


def rate_plots(table: pd.DataFrame, level: float) -> list[tuple[str, Markup]]:
    """For each kind of claim: how often it is supported against the number of seeds, a line for each effect.

    Dashed: how often it is called so or its opposite where there is nothing, and the rate that is promised.
    """
    return [(str(kind), _plot(str(kind), rows, level)) for kind, rows in table.groupby("kind", sort=False)]


def _plot(kind: str, rows: pd.DataFrame, level: float) -> Markup:
    seeds, effects = sorted(rows["seeds"].unique()), sorted(rows["effect"].unique())
    span = max(seeds[-1] - seeds[0], 1)

    def place(count: float, rate: float) -> str:
        x = _LEFT + (count - seeds[0]) / span * (_RIGHT - _LEFT)
        return f"{x:.1f},{_BOTTOM - rate * (_BOTTOM - _TOP):.1f}"

    def line(effect: float, column: str, kind: str, opacity: float) -> str:
        found = rows[rows["effect"] == effect].sort_values("seeds")
        points = " ".join(place(*one) for one in zip(found["seeds"], found[column], strict=True))
        words = f"{column}, effect {effect:g}"
        return f'<polyline class="{kind}" opacity="{opacity:.2f}" points="{points}"><title>{words}</title></polyline>'

    body = [
        f'<text x="{_LEFT - 4}" y="{_BOTTOM - rate * (_BOTTOM - _TOP) + 4:.1f}" text-anchor="end">{rate:g}</text>'
        for rate in (0, 0.5, 1)
    ]
    body += [
        f'<text x="{place(count, 0).split(",")[0]}" y="{_HEIGHT - 8}" text-anchor="middle">{count}</text>'
        for count in seeds
    ]
    promised = place(seeds[0], (1 - level) / 2), place(seeds[-1], (1 - level) / 2)
    body.append(f'<polyline class="promise" points="{" ".join(promised)}"/>')
    low, high = _SHADES
    for number, effect in enumerate(effects):
        opacity = low + (high - low) * number / max(len(effects) - 1, 1)
        body.append(line(effect, "supported", "rate", opacity))
    body.append(line(effects[0], "contradicted", "rate wrong", 1.0))
    label = escape(f"{kind}: share of studies that support it, by the number of seeds")
    return Markup(f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(body)}</svg>')


def as_markdown(table: pd.DataFrame, published: pd.DataFrame, level: float) -> str:
    """The page of the documentation: every kind, a few numbers of seeds and effects; then every claim of the paper.

    Args:
        table: of :func:`.simulate.table`.
        published: of :func:`.replication.support`.
        level: of the intervals.
    """
    shown = table[table["seeds"].isin(_SHOWN_SEEDS) & table["effect"].isin(_SHOWN_EFFECTS)]
    nothing, *there = (shown[shown["effect"] == effect].set_index(["kind", "seeds"]) for effect in _SHOWN_EFFECTS)
    heads = ["kind of claim", "seeds", "nothing: supported", "contradicted", "interval covers"]
    heads += [f"supported at {effect:g} sd" for effect in _SHOWN_EFFECTS[1:]]
    lines = [
        "# Error rates of the audit's rules",
        "",
        f"Shares of simulated studies, {int(table['replicates'].iloc[0])} a row, at {100 * level:g} %; effects in "
        "standard deviations between seeds. Written by",
        "`snakemake --cores all docs/audit_rates.md`; what is simulated is said in "
        "[`audit/simulate.py`](../src/cl_vs_mim/audit/simulate.py).",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for key, row in nothing.iterrows():
        kind, seeds = key
        cells = [row["supported"], row["contradicted"], row["coverage"], *(one.loc[key, "supported"] for one in there)]
        lines.append(f"| {kind} | {seeds} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |")
    return "\n".join([*lines, *_of_published(published)]) + "\n"


def _of_published(table: pd.DataFrame) -> list[str]:
    """Lines of the page: how a perfect replication fares."""
    counts = sorted(table["seeds"].unique())
    draws = int(table["draws"].iloc[0])
    lines = [
        "",
        "## The published values themselves",
        "",
        f"Shares of {draws} studies at the paper's own scale that find its published values, each with seeds and "
        "images of its own",
        "([`audit/published.py`](../src/cl_vs_mim/audit/published.py) says how far these spread, and what stands in "
        "where a figure could not be read).",
        "",
    ]
    for count in counts:
        rows = table[table["seeds"] == count]
        missed = rows.loc[rows["supported"] < _MOSTLY, "claim"]
        named = f"; not {', '.join(missed)}" if len(missed) else ""
        lines.append(
            f"- With {count} seeds of every encoder {len(rows) - len(missed)} of {len(rows)} claims come out supported "
            f"in {100 * _MOSTLY:g} % of the studies or more{named}. The highest rate of a contradiction is "
            f"{100 * rows['contradicted'].max():.1f} %."
        )
    lines += ["", "| claim | " + " | ".join(f"supported, {count} seeds | contradicted" for count in counts) + " |"]
    lines.append("|" + "---|" * (1 + 2 * len(counts)))
    for claim, rows in table.groupby("claim", sort=False):
        by_count = rows.set_index("seeds")
        cells = [f"{100 * by_count.loc[count, key]:.1f} %" for count in counts for key in ("supported", "contradicted")]
        lines.append(f"| {claim} | " + " | ".join(cells) + " |")
    return lines
