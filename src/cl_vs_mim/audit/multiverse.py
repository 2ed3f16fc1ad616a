"""How a verdict fares under other reasonable choices: pooling of heads, share of images, depth window, the reading,
and how the untrained encoders enter.

Each combination is a universe; the claim is measured and judged in each with the same rule. Choices that a claim's
tables do not have (heads of a table without heads) are not varied, and combinations that come to the same numbers (a
shift that moves no depth over the end of its window, the mean and the median of two heads) are one universe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from cl_vs_mim.audit.claims import Claim, ClaimFile, Multiverse
from cl_vs_mim.audit.contrasts import Contrast, Enters
from cl_vs_mim.audit.measure import Choices, Measured, measure
from cl_vs_mim.audit.series import Tables, model_of, seeds_of
from cl_vs_mim.audit.verdict import Verdict, judge
from cl_vs_mim.config.encoders import run_name
from cl_vs_mim.core.errors import UserError


@dataclass(frozen=True)
class Universe:
    """One combination of choices and what it says."""

    choices: dict[str, str]
    measured: list[Measured]
    verdict: Verdict


def universes(
    claim: Claim,
    tables: Tables,
    file: ClaimFile,
    level: float,
    groups: int = 0,
    needs: Sequence[Measured] = (),
    stated: Sequence[Measured] = (),
) -> Iterator[Universe]:
    """Every distinct analysis but that of the verdict itself; those that a table cannot show are left out.

    Args:
        claim: with those contrasts that the study can measure.
        tables: of the study.
        file: the free choices, and the rule.
        level: of the intervals.
        groups: that the claim names, where it is enough that one holds.
        needs: what the question needs, as the verdict has it.
        stated: the contrasts as the verdict has them; universes that come to the same numbers are left out.
    """
    seen = {computed(stated)} if stated else set()
    for choices in _combinations(claim, tables, file.multiverse):
        try:
            measured = [
                measure(
                    tables,
                    contrast,
                    claim.enters(contrast),
                    smallest_share=file.rule.smallest_share,
                    choices=replace(choices, enters=None) if claim.enters(contrast) == "none" else choices,
                )
                for contrast in claim.contrasts
            ]
        except UserError:  # a shifted window may hold no depth, an alternative may not be in the tables
            continue
        if (numbers := computed(measured)) in seen:
            continue
        seen.add(numbers)
        yield Universe(_named(claim, choices), measured, judge(measured, file.rule, level, groups, needs))


def computed(measured: Sequence[Measured]) -> frozenset[tuple[str, str]]:
    """What tells one analysis from another: the numbers that entered its contrasts."""
    return frozenset((one.name, one.computed) for one in measured)


def _combinations(claim: Claim, tables: Tables, options: Multiverse) -> Iterator[Choices]:
    has_heads, has_images = _varied(claim, tables)
    windows = any(end not in (0.0, 1.0) for one in claim.contrasts for t in (*one.more, *one.less) for end in t.depths)
    readings = max(len(one.alternatives) for one in claim.contrasts)
    entered = {claim.enters(one) for one in claim.contrasts}
    others: list[Enters | None] = [one for one in options.controls if entered - {one, "none"}]
    for heads, grid, share, shift, reading, enters in product(
        options.heads if has_heads else options.heads[:1],
        [None, *(grid for grid in tables.study.analysis.grids if _measured_at(grid, claim, tables))],
        options.images if has_images else options.images[:1],
        options.shifts if windows else options.shifts[:1],
        [None, *range(readings)],
        [None, *others],
    ):
        choices = Choices(heads, grid, max(1, round(1 / share)), shift, reading, enters)
        if choices != Choices():
            yield choices


def _measured_at(grid: int, claim: Claim, tables: Tables) -> bool:
    """Whether any contrast's tables exist at another grid."""
    return any((tables.folder / f"grid{grid}" / one.table).is_dir() for one in claim.contrasts)


def _varied(claim: Claim, tables: Tables) -> tuple[bool, bool]:
    """Whether any table of the claim has several heads, and any has images."""
    found = [_columns(one, tables) for one in claim.contrasts]
    return any(heads for heads, _ in found), any(images for _, images in found)


def _columns(contrast: Contrast, tables: Tables) -> tuple[bool, bool]:
    term = (*contrast.more, *contrast.less)[0]
    model = model_of(tables.study, term.model)
    path = (
        tables.folder / (term.table or contrast.table) / f"{run_name(model, seeds_of(tables.study, model)[0])}.parquet"
    )
    frame = tables.frame(path)
    for column, value in contrast.where.items():
        if column in frame and not isinstance(value, list):
            frame = frame[frame[column] == value]
    return "head" in frame and frame["head"].nunique() > 1, "image" in frame and frame["image"].nunique() > 1


def _named(claim: Claim, choices: Choices) -> dict[str, str]:
    names = {"heads": choices.heads, "images": f"1/{choices.every}" if choices.every > 1 else "all"}
    names["grid"] = "as trained" if choices.grid is None else f"{choices.grid} patches a side"
    names["window"] = f"{choices.shift:+g}" if choices.shift else "as stated"
    names["untrained"] = choices.enters or "as stated"
    if choices.alternative is None:
        return names | {"reading": "as stated"}
    readings = (one.alternatives[choices.alternative].name for one in claim.contrasts if one.alternatives)
    return names | {"reading": next(readings)}
