"""A workflow that was killed: the same command goes on, whatever was left locked or half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("snakemake")

from checkout import ROOT, copy_of_workflow
from cl_vs_mim.core.workflow_lock import VARIABLE, hold_command, hold_workflow


def left_behind(folder: Path) -> Path:
    """A lock of Snakemake's, of a process that is no more."""
    locks = folder / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0.output.lock").write_text("results/smoke/report.html\n")
    return locks


@pytest.fixture
def snake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, "unset")  # so that it is put back
    return tmp_path / ".snakemake"


def test_a_dead_lock_is_cleared(snake: Path) -> None:
    first = hold_workflow(snake)
    locks = left_behind(snake)
    assert first is not None
    first.close()  # as the end of a process does
    assert hold_workflow(snake) is not None and not locks.exists()


def test_the_lock_of_a_workflow_that_runs_stays(snake: Path) -> None:
    first = hold_workflow(snake)
    locks = left_behind(snake)
    second = hold_workflow(snake)
    assert locks.exists()
    assert first is not None
    first.close()
    third = hold_workflow(snake)
    assert second is not None and third is not None and locks.exists(), "the second one runs"


def test_a_lock_of_another_machine_is_left_to_a_person(snake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locks = left_behind(snake)
    (snake / "workflows.held").write_text("elsewhere\n")
    assert hold_workflow(snake) is not None and locks.exists()
    assert "a lock of elsewhere; if nothing runs there: snakemake --unlock" in capsys.readouterr().err


def test_commands_of_a_killed_workflow_are_waited_for(snake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workflow = hold_workflow(snake)
    command = [sys.executable, "-c", "import sys; from cl_vs_mim.core.workflow_lock import *; held = hold_command(); "]
    command[-1] += "print('held', flush=True); import time; time.sleep(1)"
    orphan = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert orphan.stdout is not None and orphan.stdout.readline() == "held\n"
    assert workflow is not None
    workflow.close()
    assert hold_workflow(snake) is not None
    assert orphan.poll() is not None or orphan.wait(1) == 0
    assert "still running; waiting for them" in capsys.readouterr().err


def test_outside_a_workflow_a_command_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert hold_command() is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_after_a_kill_the_same_make_goes_on(tmp_path: Path) -> None:
    """Killed while a data set is composed, with everything it had started; then the same command again."""
    checkout = copy_of_workflow(tmp_path / "checkout")
    (checkout / ".venv").symlink_to(Path(sys.prefix))
    makefile = (ROOT / "Makefile").read_text()
    assert "setup: ##" in makefile
    (checkout / "Makefile").write_text(makefile.replace("\t@sh scripts/setup.sh", "\t@true"))
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "STUDY")}
    command = ["make", "figures", "STUDY=smoke", "CORES=1", "OPTIONS=--until=compose"]
    told = {"cwd": checkout, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = subprocess.Popen(command, start_new_session=True, **told)
    end = time.monotonic() + 300
    while not list(checkout.glob("results/smoke/data/.*.partial/.journal/*")):
        assert started.poll() is None and time.monotonic() < end, started.communicate()[0][-2000:]
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert list((checkout / ".snakemake" / "locks").iterdir()) and list((checkout / ".snakemake/incomplete").iterdir())
    again = subprocess.run(command, timeout=400, **told)
    assert again.returncode == 0, again.stdout[-3000:]
    assert (checkout / "results/smoke/data/objects/manifest.json").exists()
    left = list((checkout / "results").rglob(".*"))
    assert not left, "no hidden file stays"
