"""Claims and rules are fixed by their hashes, and cannot be changed under a study without a new version."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit_tables import write_pair
from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.commands import preregister
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.registration import Registration, Run, at_hand, read, registered, same
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.config import load_study
from cl_vs_mim.core import closure
from cl_vs_mim.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = ROOT / "config" / "claims.yaml"
DEMO = ROOT / "config" / "demo.yaml"
REGISTERED = ROOT / "config" / "preregistration.yaml"


def test_what_is_at_hand_is_registered() -> None:
    """After a change: raise ``rule.version`` if a study was run under the last one, and run cl-vs-mim preregister."""
    assert same(read(REGISTERED)[-1], at_hand(load_claims(CLAIMS)))


def test_versions_grow_and_dates_with_them() -> None:
    known = read(REGISTERED)
    assert [one.version for one in known] == sorted({one.version for one in known})
    assert [one.date for one in known] == sorted(one.date for one in known)


def test_a_comment_is_no_new_version_and_a_margin_is(tmp_path: Path) -> None:
    text = CLAIMS.read_text(encoding="utf-8")
    hashes = []
    for changed in (text, "# a word more\n" + text, text.replace("margin: 0.957", "margin: 0.9", 1)):
        path = tmp_path / "claims.yaml"
        path.write_text(changed, encoding="utf-8")
        hashes.append(at_hand(load_claims(path)).claims)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_version_that_a_study_was_run_under_stays() -> None:
    now = at_hand(load_claims(CLAIMS), "first")
    assert registered(now, []) == [now]
    other = now.model_copy(update={"claims": "0" * 64, "reason": "second"})
    assert registered(other, [now]) == [other], "no study was run under it, so it is replaced"
    demo = Run(study="demo", level=0.95, noted="before")
    (run,) = registered(now, [now], demo)
    assert run.studies == [demo] and registered(now, [run], demo.model_copy(update={"noted": "after"})) == [run]
    with pytest.raises(UserError, match=r"under which demo was run; raise rule\.version"):
        registered(other, [run])
    later = other.model_copy(update={"version": now.version + 1})
    assert registered(later, [run]) == [run, later]


def test_the_command_writes_what_it_reads(tmp_path: Path, capsys) -> None:
    path = tmp_path / "preregistration.yaml"
    with pytest.raises(UserError, match="say with --reason"):
        preregister(claims=CLAIMS, output=path)
    preregister(reason="the first", claims=CLAIMS, output=path)
    preregister(config=DEMO, claims=CLAIMS, results=tmp_path, output=path)
    (one,) = read(path)
    assert (one.reason, one.studies) == ("the first", [Run(study="demo", level=0.95, noted="before")])
    assert "version" in capsys.readouterr().out
    path.write_text("versions: [3]")
    with pytest.raises(UserError, match="not a list of registered versions"):
        read(path)


@pytest.mark.parametrize("there", ["claims.json", "tables/attention/moco_v3_seed0.parquet"])
def test_a_study_that_was_run_is_noted_as_registered_after_it(tmp_path: Path, capsys, there: str) -> None:
    path, result = tmp_path / "preregistration.yaml", tmp_path / "demo" / there
    result.parent.mkdir(parents=True)
    result.write_text("")
    preregister(reason="late", config=DEMO, claims=CLAIMS, results=tmp_path, output=path)
    assert "registered after it was run" in capsys.readouterr().out
    result.unlink()
    preregister(config=DEMO, claims=CLAIMS, results=tmp_path, output=path)
    assert [one.noted for one in read(path)[-1].studies] == ["after"], "and stays so"


@pytest.mark.parametrize("module", ["contrasts", "claims", "series", "judge", "multiverse", "terms", "estimate"])
def test_the_rules_are_all_code_from_tables_to_verdicts(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    before = at_hand(load_claims(CLAIMS)).rules
    changed = f"cl_vs_mim.audit.{module}"
    code = closure._code
    monkeypatch.setattr(closure, "_code", lambda name: code(name) + ("\nx = 1" if name == changed else ""))
    assert at_hand(load_claims(CLAIMS)).rules != before


def test_a_report_says_under_which_version_it_judged(tmp_path: Path) -> None:
    write_pair(tmp_path)
    tables, file = Tables(load_study(ROOT / "config" / "smoke.yaml"), tmp_path), load_claims(CLAIMS)
    few = file.model_copy(update={"claims": {"C9": file.claims["C9"]}, "curves": []})
    now = at_hand(few)

    def under(run: Run) -> Registration:
        return now.model_copy(update={"studies": [run]})

    for known, expected in (
        ([], (False, False)),
        ([now], (True, False)),
        ([under(Run(study="smoke", level=0.95, noted="before"))], (True, True)),
        ([under(Run(study="smoke", level=0.95, noted="after"))], (True, False)),
        ([under(Run(study="smoke", level=0.5, noted="before"))], (True, False)),
    ):
        audit = Audit(few, tables, ROOT / "results/reference/reference_values.csv", known)
        found = audit.report("0" * 64, "1" * 64).registration
        assert (found.registered, found.before_the_study) == expected and found.version == file.rule.version
