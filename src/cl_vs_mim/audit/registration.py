"""``config/preregistration.yaml``: which claims and rules were fixed when, by their hashes, and for which studies.

A verdict is worth more when what decides it was fixed before the study was run. The file is a list of versions, the
latest last; ``preregister`` writes it, and a test compares its last entry with the claims and rules at hand.
"""

from __future__ import annotations

import hashlib
from datetime import date
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import Field, PositiveInt, ValidationError

from cl_vs_mim.audit.claims import ClaimFile
from cl_vs_mim.config.sections import Section
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_json
from cl_vs_mim.core.yaml_files import read_yaml

DECIDES_NO_RESULT = True

_RULES = ("estimate", "evidence", "measure", "terms", "verdict")  # modules of this package: from numbers to a verdict
_HEAD = """# Which claims (config/claims.yaml) and rules (code of the audit) were fixed when, the latest last,
# and which studies were run under them. Written by: cl-vs-mim preregister. Comments of the claims do not count.

"""


class Registration(Section):
    """One version of claims and rules."""

    version: PositiveInt
    date: date
    claims: str  # sha256 of the claims and of what the rules leave to be fixed
    rules: str  # sha256 of the modules that judge
    reason: str  # what is new in it
    studies: list[str] = Field(default_factory=list)  # run under it


class Register(Section):
    """The file: every version, the latest last."""

    versions: list[Registration]


def at_hand(file: ClaimFile, reason: str = "") -> Registration:
    """The claims and rules as they are now."""
    content = file.model_dump(mode="json", include={"rule", "claims"})
    digest = hashlib.sha256()
    for name in _RULES:
        digest.update(files("cl_vs_mim.audit").joinpath(f"{name}.py").read_bytes())
    return Registration(
        version=file.rule.version,
        date=file.rule.date,
        claims=sha256_json(content),
        rules=digest.hexdigest(),
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


def registered(now: Registration, known: list[Registration], study: str = "") -> list[Registration]:
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
        raise UserError(
            f"claims or rules differ from version {last.version}, under which {', '.join(last.studies)} was run; raise "
            "rule.version and rule.date of the claims"
        )
    studies = [*now.studies, *([study] if study and study not in now.studies else [])]
    return [*before, now.model_copy(update={"studies": studies})]


def as_yaml(known: list[Registration]) -> str:
    """The file's content."""
    content = Register(versions=known).model_dump(mode="json")
    return _HEAD + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)
