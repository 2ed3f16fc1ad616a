"""``config/preregistration.yaml``: which claims and rules were fixed when, by their hashes, and for which studies.

A verdict is worth more when what decides it was fixed before the study was run. The file is a list of versions, the
latest last; ``preregister`` writes it, and a test compares its last entry with the claims and rules at hand.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError

from cl_vs_mim.audit.claims import ClaimFile
from cl_vs_mim.config.sections import Section
from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.yaml_files import read_yaml

DECIDES_NO_RESULT = True

_RULES = "cl_vs_mim.audit.judge"  # with all that it imports: from tables to verdicts
_HEAD = """# Which claims (config/claims.yaml) and rules (code of the audit) were fixed when, the latest last,
# and which studies were run under them. Written by: cl-vs-mim preregister. Comments of the claims do not count.

"""


class Run(Section):
    """A study that is run under a version."""

    study: str
    level: float  # of its intervals, which decides verdicts too
    noted: Literal["before", "after"]  # whether tables of it lay there already


class Registration(Section):
    """One version of claims and rules."""

    version: PositiveInt
    date: date
    claims: str  # sha256 of the claims and of what the rules leave to be fixed
    rules: str  # digest of the code that judges, and of all that it imports
    reason: str  # what is new in it
    studies: list[Run] = Field(default_factory=list)  # run under it


class Register(Section):
    """The file: every version, the latest last."""

    versions: list[Registration]


def at_hand(file: ClaimFile, reason: str = "") -> Registration:
    """The claims and rules as they are now."""
    content = file.model_dump(mode="json", include={"rule", "claims"})
    return Registration(
        version=file.rule.version,
        date=file.rule.date,
        claims=sha256_json(content),
        rules=code_digest(_RULES),
        reason=reason,
    )


def read(path: Path) -> list[Registration]:
    """All versions; none where there is no file.

    Raises:
        UserError: it is not valid.
    """
    if not path.exists():
        return []
    try:
        return Register.model_validate(read_yaml(path, "preregistration")).versions
    except ValidationError as error:
        raise UserError(f"{path} is not a list of registered versions; write it with: cl-vs-mim preregister") from error


def same(one: Registration, other: Registration) -> bool:
    """Whether both are of the same claims and rules."""
    return (one.version, one.date, one.claims, one.rules) == (other.version, other.date, other.claims, other.rules)


def registered(now: Registration, known: list[Registration], run: Run | None = None) -> list[Registration]:
    """The versions with that at hand as the last one, and the study among those that are run under it.

    A version that no study was run under is replaced; one that was stays as it was.

    Raises:
        UserError: claims or rules differ from a version that studies were run under, but the number is not higher.
    """
    before = known
    if known and same(known[-1], now):
        now = known[-1]
        before = known[:-1]
    elif known and not known[-1].studies:
        before = known[:-1]
    if before and now.version <= before[-1].version:
        last = before[-1]
        run_under = ", ".join(one.study for one in last.studies)
        raise UserError(
            f"claims or rules differ from version {last.version}, under which {run_under} was run; raise "
            "rule.version and rule.date of the claims"
        )
    noted = {(one.study, one.level) for one in now.studies}
    studies = [*now.studies, *([run] if run and (run.study, run.level) not in noted else [])]
    return [*before, now.model_copy(update={"studies": studies})]


def run_of(study: str, level: float, results: Path) -> Run:
    """A study that is to be noted: before it was run only where neither a table nor an audit of it is there.

    Args:
        study: its name.
        level: of its intervals.
        results: folder of the results of all studies.
    """
    folder = results / study
    there = (folder / "claims.json").exists() or any((folder / "tables").rglob("*.parquet"))
    return Run(study=study, level=level, noted="after" if there else "before")


def as_yaml(known: list[Registration]) -> str:
    """The file's content."""
    content = Register(versions=known).model_dump(mode="json")
    return _HEAD + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)
