"""Names of folders and files are data: no rule lets a shell read them, and a failed rule takes nothing away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("snakemake")

from snakemake.exceptions import WorkflowError

from checkout import STUDIES, copy_of_workflow
from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from plan import carry_out, needed, plan, pretend

HOSTILE = "a $(touch RAN) `touch RAN` 'b\" ;touch RAN; &| *"
STAND_IN = '#!/bin/bash\nprintf "%s\\0" "$@" >> "$CALLS"\nprintf "\\0" >> "$CALLS"\n'


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, a kit, a tokenizer, a checkpoint and somebody's results, all with names that a shell would run."""
    folder = copy_of_workflow(tmp_path_factory.mktemp("clone") / f"{HOSTILE} {{c}}")
    kit = folder / HOSTILE / "kit"
    kit.parent.mkdir()
    (folder / "data" / "kit").rename(kit)
    path = folder / "config" / "smoke.yaml"
    study = yaml.safe_load(path.read_text())
    study["data"]["kit"] = str(kit.relative_to(folder))
    objective = study["models"]["beit"]["objective"]
    del objective["tokenizer"]
    objective["tokenizer_file"] = f"tokenizer {HOSTILE}.safetensors"
    (folder / objective["tokenizer_file"]).touch()
    mae = study["models"]["mae"]
    del mae["objective"], mae["training"]
    mae["checkpoint"] = {"file": f"encoder {HOSTILE}", "method": "mae"}
    (folder / f"encoder {HOSTILE}").touch()
    path.write_text(yaml.safe_dump(study))
    for name in (HOSTILE, "b{run}", "other"):
        others = folder / "results" / name / "claims.json"
        others.parent.mkdir(parents=True)
        others.write_text("{}")
    return folder


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``cl-vs-mim`` that only writes down its words, one a line, and an empty line after each call."""
    command = tmp_path / "bin" / "cl-vs-mim"
    command.parent.mkdir()
    command.write_text(STAND_IN)
    command.chmod(0o755)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


def test_no_command_is_run_by_a_name(clone: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of a job of every rule, by the shell that Snakemake uses, with the words it has to get."""
    path = os.environ["PATH"]
    targets = ("all", "weights/smoke/simmim_seed0.md", "results/smoke/checks/scenes.json")
    with plan(clone, "smoke", *targets) as whole:
        monkeypatch.setenv("PATH", path)  # the workflow puts its own in front
        jobs = {job.rule.name: job for job in whole.jobs.values() if job.rule.shellcmd}
        jobs["pretrain"] = whole.jobs["pretrain beit_seed0"]
        commands = {name: job.shellcmd for name, job in jobs.items()}
        files = {name: [*map(str, job.input), *map(str, job.log)] for name, job in jobs.items()}
        logs = [Path(str(log)) for job in jobs.values() for log in job.log]
    assert len(commands) > 20
    for log in logs:
        (clone / log).parent.mkdir(parents=True, exist_ok=True)
    before = {path for path in clone.rglob("*") if path.is_file()}  # rules write where they are told, or nowhere
    for name, command in commands.items():
        if not name.startswith("show"):
            subprocess.run(["bash", "-c", f"set -euo pipefail; {command}"], cwd=clone, check=True)
    assert not list(clone.rglob("RAN"))
    assert {path for path in clone.rglob("*") if path.is_file()} - before == {
        clone / log for log in logs if "shown" not in log.parts
    }
    calls = [call.split("\0") for call in stand_in.read_text().split("\0\0")]
    given = {call[0]: call for call in calls}
    assert f"tokenizer {HOSTILE}.safetensors" in given["pretrain"]
    assert f"encoder {HOSTILE}" in given["import-encoder"]
    others = given["report"][given["report"].index("--others") + 1 :]
    found = others[: next(place for place, word in enumerate(others) if word.startswith("--"))]
    assert found == ["results/other/claims.json"], "the others are no names of a study"
    assert any(HOSTILE in file for file in files["compose"])


def test_every_place_of_every_command_is_quoted(clone: Path) -> None:
    for study in STUDIES:
        with plan(copy_of_kit(clone), study) as whole:
            for rule in whole.workflow.rules:
                places = re.findall(r"\{([^}]*)\}", rule.shellcmd or "")
                assert [place for place in places if not place.endswith(":q") and place != "threads"] == [], rule.name


def copy_of_kit(clone: Path) -> Path:
    """The clone, with the kit also where other studies expect it."""
    kit = clone / "data" / "kit" / "manifest.csv"
    kit.parent.mkdir(exist_ok=True)
    kit.touch()
    return clone


def test_a_clone_of_any_name_is_worked_in(clone: Path) -> None:
    """Snakemake's own shell, the real command, and an environment inside the clone."""
    environment = clone / ".venv"
    (environment / "bin").mkdir(parents=True)
    for name in ("lib", "pyvenv.cfg", "bin/python"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    command = environment / "bin" / "cl-vs-mim"  # a first line cannot hold such a path, which pip knows too
    command.write_text('#!/bin/sh\nexec "${0%/*}/python" -m cl_vs_mim "$@"\n')
    command.chmod(0o755)
    target = ["results/smoke/study.yaml", "--workflow-profile", "none", "--config", "study=smoke"]
    words = [environment / "bin" / "python", "-m", "snakemake", "--cores", "1", *target]
    done = subprocess.run(words, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (clone / "results/smoke/study.yaml").read_text().startswith("study: smoke")
    assert not list(clone.rglob("RAN"))


@pytest.mark.parametrize("key", ["data.kit", "models.mae.checkpoint.file", "models.beit.objective"])
def test_a_path_that_snakemake_would_take_for_a_wildcard_is_refused(clone: Path, tmp_path: Path, key: str) -> None:
    text = (clone / "config" / "smoke.yaml").read_text()
    study = yaml.safe_load(text)
    where = {"data.kit": ("data", "kit"), "models.mae.checkpoint.file": ("models", "mae", "checkpoint", "file")}
    *way, last = where.get(key, ("models", "beit", "objective", "tokenizer_file"))
    section = study
    for part in way:
        section = section[part]
    section[last] = "a{{run}}" if last == "file" else "a{run}"
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(study))
    with pytest.raises(UserError, match=rf"{key}: braces in 'a\{{run\}}' would be a wildcard"):
        load_study(path)


# ------------------------------------------------------------------------------------------------
# A failed rule
# ------------------------------------------------------------------------------------------------


def test_a_failed_rule_leaves_the_old_page_and_runs_again(tmp_path: Path) -> None:
    folder = copy_of_workflow(tmp_path / "checkout")

    pretend(folder, "smoke")
    page, claims = folder / "results/smoke/report.html", folder / "results/smoke/claims.json"
    page.write_text("the old page")
    os.utime(page, (claims.stat().st_atime, claims.stat().st_mtime))
    claims.write_text("no claims")  # newer than the page: it has to be written again, which fails
    with pytest.raises(WorkflowError):
        carry_out(folder, "smoke", "results/smoke/report.html", rules={"audit_report"})
    assert page.read_text() == "the old page"
    assert "audit_report" in needed(folder, "smoke", "results/smoke/report.html"), "the old page is not taken for new"
