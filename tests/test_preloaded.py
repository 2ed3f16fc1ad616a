"""The stand-in for the console script that the run of the workflow uses: a command is the same through it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import cl_vs_mim
from preloaded import preloaded


def shell(folder: Path, command: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As a rule runs it."""
    words = ["bash", "-c", f"set -euo pipefail; {command}"]
    return subprocess.run(words, cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=60)


def processes(folder: Path) -> list[str]:
    """Command lines that name the socket in the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        found += [words] if str(folder / "socket") in words else []
    return found


def test_words_folder_environment_streams_and_status_go_through(tmp_path: Path) -> None:
    with preloaded(tmp_path, ("json",)) as variables:
        hook = Path(variables["BASH_ENV"])
        hook.write_text(hook.read_text().replace(str(Path(sys.executable).with_name("cl-vs-mim")), "/bin/false"))
        version = shell(tmp_path, "cl-vs-mim --version | cat", variables)
        assert (version.returncode, version.stdout.strip()) == (0, cl_vs_mim.__version__), version.stderr
        missing = shell(tmp_path, "cl-vs-mim show-study --config 'no such.yaml'", variables)
        assert missing.returncode == 2 and missing.stderr.startswith("error: ") and "no such.yaml" in missing.stderr
        unknown = shell(tmp_path, "cl-vs-mim nothing 2>&1 | cat", variables)
        assert unknown.returncode == 2 and unknown.stdout.startswith("error: ")
        shell(tmp_path, "cl-vs-mim --version", variables | {"CL_VS_MIM_WORKFLOW": "held"})
        assert (tmp_path / "held").exists(), "it knows the workflow that runs it"
        assert processes(tmp_path)
    assert not processes(tmp_path), "nothing of it is left"
    assert shell(tmp_path, "cl-vs-mim --version", variables).returncode == 1, "the script, which is /bin/false here"


def test_what_still_runs_ends_with_it(tmp_path: Path, root: Path) -> None:
    compose = "cl-vs-mim compose --config config/smoke.yaml --dataset objects --workers 2"
    words = ["bash", "-c", f"{compose} --output '{tmp_path}/objects'"]
    with preloaded(tmp_path, ()) as variables:
        started = subprocess.Popen(words, cwd=root, env=os.environ | variables, stderr=subprocess.PIPE)
        while not list(tmp_path.glob(".*.partial/.journal/*")):
            assert started.poll() is None
            time.sleep(0.02)
    assert b"was killed" in started.communicate(timeout=60)[1] and started.returncode == 1
    assert not processes(tmp_path), "nor what it had started"


def test_what_cannot_be_imported_is_left_to_the_command(tmp_path: Path) -> None:
    with preloaded(tmp_path, ("no_such_module",)) as variables:
        assert shell(tmp_path, "cl-vs-mim --version", variables).stdout.strip() == cl_vs_mim.__version__
    assert not (tmp_path / "log").read_text()
