"""Makefile, scripts/setup.py and .ci/run, in a sandbox: a copy of those files with stand-ins for uv and Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = ["Makefile", "scripts", ".ci", "pyproject.toml", "requirements.lock", "requirements-uv.lock", "detectron2.lock"]
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)

# Notes its arguments; fails if the file "fail" exists; gives `--target` what detectron2's wheel holds.
FAKE_UV = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
if [ -e "$here/fail" ]; then cat "$here/fail"; exit 1; fi
sleep 0.3
while [ $# -gt 1 ]; do
    if [ "$1" = --target ]; then mkdir -p "$2/detectron2" "$2/sal_detectron2-0.7.2.dist-info" "$2/tools"; fi
    shift
done
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """A checkout with the set-up's files alone; free of the caller's choices."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in FILES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    choices = ("STUDY", "PYTHON", "CORES", "WORKERS", "COVERAGE", "PYTEST_ARGS", "TEST_STATUS", "UPGRADE")
    for name in (*choices, "MAKEFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def setup(sandbox, monkeypatch):
    """The sandbox's own scripts/setup.py as a module."""
    for name in ("setup", "steps"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(sandbox / "scripts"))
    import setup

    yield setup
    for name in ("setup", "steps"):
        sys.modules.pop(name, None)


@pytest.fixture
def fake_uv(setup):
    """Stands where setup.py looks for the pinned uv; the folder holds `calls` and may hold `fail`."""
    digest = setup.hashlib.sha256((setup.ROOT / "requirements-uv.lock").read_bytes()).hexdigest()
    return script(setup.STATE / f"uv-{digest[:12]}" / "bin" / "uv", FAKE_UV).parent


def make(root: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *arguments], cwd=root, env={**os.environ, **env}, capture_output=True, text=True)


def syncs(fake_uv: Path) -> int:
    calls = fake_uv / "calls"
    return len(re.findall(r"^pip sync ", calls.read_text(), re.MULTILINE)) if calls.exists() else 0


# ----------------------------------------------------------------------------------------------------------------------
# The right Python
# ----------------------------------------------------------------------------------------------------------------------
def test_python_that_was_asked_for_is_wrong(sandbox):
    old = script(sandbox / "old" / "python3.9", "#!/bin/sh\necho 3 9 18\n")
    result = make(sandbox, "fig3", PYTHON=str(old))
    assert result.returncode
    assert "error: Python 3.11 or 3.12 is needed" in result.stderr
    assert f"{old} (3.9.18)" in result.stderr
    assert not (sandbox / ".venv").exists()


def test_every_python_on_the_path_is_wrong(sandbox):
    script(sandbox / "bin" / "python3.12", "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
    script(sandbox / "bin" / "python3", "#!/bin/sh\necho 3 13 0\n")
    command = [sys.executable, "scripts/setup.py"]
    result = subprocess.run(command, cwd=sandbox, env={"PATH": f"{sandbox}/bin"}, capture_output=True, text=True)
    assert result.returncode
    assert "python3.12 (does not start)" in result.stderr
    assert "python3 (3.13.0)" in result.stderr


def test_broken_shim_is_passed_over(sandbox, setup):
    for folder, name, body in [
        ("shims", "python3.12", "exit 127"),
        ("shims", "python3.11", "echo 3 11 7"),
        ("system", "python3.12", "echo 3 12 1"),
    ]:
        script(sandbox / folder / name, f"#!/bin/sh\n{body}\n")
    assert setup.find_python(None, f"{sandbox}/shims") == f"{sandbox}/shims/python3.11"
    assert setup.find_python(None, f"{sandbox}/shims:{sandbox}/system") == f"{sandbox}/system/python3.12"


def test_no_python_at_all(sandbox):
    (sandbox / "bin").mkdir()
    (sandbox / "bin" / "dirname").symlink_to(shutil.which("dirname"))
    script(sandbox / "bin" / "python3", "#!/bin/sh\nexit 1\n")  # too old to run setup.py, say 3.6
    command = ["/bin/sh", "scripts/setup.sh"]
    result = subprocess.run(command, cwd=sandbox, env={"PATH": f"{sandbox}/bin"}, capture_output=True, text=True)
    assert result.returncode == 2
    assert "error: Python 3.11 or 3.12 is needed" in result.stderr


def test_missing_venv_module_is_explained(setup):
    for output in ("/usr/bin/python3.12: No module named venv", "because ensurepip is not\navailable."):
        assert "apt install python3-venv" in setup.diagnosis(output)


# ----------------------------------------------------------------------------------------------------------------------
# Disk and network
# ----------------------------------------------------------------------------------------------------------------------
def test_too_little_disk_is_said_before_anything_is_made(sandbox, setup, fake_uv, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda folder: usage(10**11, 10**11 - 10**9, 10**9))
    with pytest.raises(setup.SetupError, match=r"no disk space: .* GB in .*, 1\.0 GB are free"):
        setup.set_up_venv(BASE_PYTHON)
    assert not (sandbox / ".venv").exists()
    assert not syncs(fake_uv)


def test_disk_that_fills_up_during_the_installation(sandbox, fake_uv):
    (fake_uv / "fail").write_text("error: failed to write to file\n  cause: No space left on device (os error 28)\n")
    result = make(sandbox, "setup", PYTHON=BASE_PYTHON)
    assert result.returncode
    assert "error: no disk space" in result.stderr
    assert "UV_CACHE_DIR" in result.stderr


def assert_says_no_network(result, root):
    assert result.returncode
    assert "error: no network: the package index cannot be reached." in result.stderr
    assert str(root / ".setup" / "setup.log") in result.stderr


UNREACHABLE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}


def test_no_network_for_pip(sandbox):
    env = dict(UNREACHABLE, PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS="")
    result = make(sandbox, "setup", PYTHON=BASE_PYTHON, **env)
    assert_says_no_network(result, sandbox)
    assert "from versions: none" in result.stderr.split("Last lines")[1]


def test_no_network_for_uv(sandbox, tmp_path, monkeypatch):
    ready = sorted((ROOT / ".setup").glob("uv-*/bin/uv"))
    if not ready:
        pytest.skip("no uv here: scripts/setup.py did not make this environment")
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)  # uv would prefer its own settings to pip's
    (sandbox / ".setup").mkdir()
    (sandbox / ".setup" / ready[-1].parts[-3]).symlink_to(ready[-1].parents[1])
    result = make(sandbox, "setup", PYTHON=BASE_PYTHON, UV_CACHE_DIR=str(tmp_path / "cache"), **UNREACHABLE)
    assert_says_no_network(result, sandbox)
    assert "refused" in result.stderr.split("Last lines")[1]


# ----------------------------------------------------------------------------------------------------------------------
# Idempotent, interruptible, one at a time
# ----------------------------------------------------------------------------------------------------------------------
def test_second_call_does_nothing_and_is_quick(sandbox, fake_uv):
    first = make(sandbox, "setup", PYTHON=BASE_PYTHON)
    assert first.returncode == 0, first.stderr
    calls = (fake_uv / "calls").read_text()
    site_packages = next((sandbox / ".venv" / "lib").glob("python3.*")) / "site-packages"
    assert (site_packages / "detectron2").is_dir()
    assert not (site_packages / "tools").exists()
    started = time.monotonic()
    second = make(sandbox, "setup")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert time.monotonic() - started < 2
    assert (fake_uv / "calls").read_text() == calls


def test_changed_lock_is_synchronised_and_failure_is_redone(sandbox, fake_uv):
    assert make(sandbox, "setup", PYTHON=BASE_PYTHON).returncode == 0
    mark = sandbox / ".venv" / "mark"
    mark.touch()
    with (sandbox / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert make(sandbox, "setup").returncode == 0
    assert syncs(fake_uv) == 2
    assert mark.exists()  # brought up to date, not rebuilt

    with (sandbox / "requirements.lock").open("a") as lock:
        lock.write("# changed again\n")
    (fake_uv / "fail").write_text("error: something new\n")
    failed = make(sandbox, "setup")
    assert failed.returncode
    assert "error: something new" in failed.stderr
    (fake_uv / "fail").unlink()
    assert make(sandbox, "setup", PYTHON=BASE_PYTHON).returncode == 0
    assert syncs(fake_uv) == 4
    assert not mark.exists()  # a half-installed environment is not trusted


def test_two_at_once_install_once(sandbox, fake_uv):
    env = {**os.environ, "PYTHON": BASE_PYTHON}
    both = [
        subprocess.Popen(["make", "setup"], cwd=sandbox, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert syncs(fake_uv) == 1
    assert sum("Another set-up is running" in output for output in outputs) <= 1


def test_condition_of_an_environment(sandbox, setup):
    prefix = sandbox / ".venv"
    version = setup.version_of(sys.executable)
    assert setup.condition(prefix) == "absent"
    (prefix / "bin").mkdir(parents=True)
    assert setup.condition(prefix) == "foreign"
    (prefix / "bin" / "python").symlink_to(sys.executable)
    setup.write_stamp(prefix, "unfinished", version)
    assert setup.condition(prefix) == "broken"
    setup.write_stamp(prefix, "complete", version)
    assert setup.condition(prefix) == "ready"
    assert setup.condition(prefix, version) == "ready"
    assert setup.condition(prefix, (3, 10, 0)) == "broken"
    prefix.rename(sandbox / "moved")
    assert setup.condition(sandbox / "moved") == "broken"
    (sandbox / "moved").rename(prefix)
    for name in setup.INPUTS:
        content = (sandbox / name).read_text()
        (sandbox / name).write_text(content + "\n")
        assert setup.condition(prefix) == "stale", name
        (sandbox / name).write_text(content)
    assert setup.condition(prefix) == "ready"
    (prefix / "bin" / "python").unlink()
    assert setup.condition(prefix) == "broken"


def test_foreign_venv_is_left_alone(sandbox, fake_uv):
    (sandbox / ".venv").mkdir()
    (sandbox / ".venv" / "mine").touch()
    result = make(sandbox, "setup", PYTHON=BASE_PYTHON)
    assert result.returncode
    assert "this set-up did not make it" in result.stderr
    assert (sandbox / ".venv" / "mine").exists()
    assert not syncs(fake_uv)


def test_into_active_refuses_a_bare_interpreter(sandbox):
    if subprocess.run([BASE_PYTHON, "-c", "import sys; sys.exit(sys.prefix != sys.base_prefix)"]).returncode:
        pytest.skip("the base interpreter is itself an environment")
    command = [BASE_PYTHON, "scripts/setup.py", "--into-active"]
    result = subprocess.run(command, cwd=sandbox, capture_output=True, text=True)
    assert result.returncode
    assert "no environment is active" in result.stderr


def test_pip_settings_reach_uv(setup, monkeypatch):
    import steps

    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1/pip")
    monkeypatch.setenv("PIP_CERT", "/a.pem")
    assert steps.environment()["UV_DEFAULT_INDEX"] == "http://127.0.0.1/pip"
    assert steps.environment()["SSL_CERT_FILE"] == "/a.pem"
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1/uv")
    assert "UV_DEFAULT_INDEX" not in steps.environment()


# ----------------------------------------------------------------------------------------------------------------------
# Makefile, environment.yml and .ci/run
# ----------------------------------------------------------------------------------------------------------------------
def test_help_is_the_default_and_lists_every_target(sandbox):
    targets = re.search(r"^\.PHONY: (.*)$", (sandbox / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert {"fig3", "figures", "all", "test", "lint", "types", "lock", "clean-results"} <= set(targets)
    result = make(sandbox)
    assert set(re.findall(r"^make (\S+)", result.stdout, re.MULTILINE)) == set(targets)


def test_study_and_cores_reach_snakemake(sandbox):
    command = ".venv/bin/snakemake --cores {} figures/fig3.pdf{}\n"
    assert command.format("all", " ") in make(sandbox, "-n", "fig3").stdout
    assert command.format("1", " --config study=smoke") in make(sandbox, "-n", "fig3", STUDY="smoke", CORES="1").stdout


def test_tests_run_in_two_processes_unless_told_otherwise(sandbox):
    assert (
        ".venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  \n"
        in make(sandbox, "-n", "test").stdout
    )
    told = make(sandbox, "-n", "test", WORKERS="0", COVERAGE="1", PYTEST_ARGS="-k nmi").stdout
    assert re.search(r"pytest -n 0 .* --cov --cov-report=term:skip-covered -k nmi$", told, re.MULTILINE)


@pytest.mark.parametrize("study", ["", "smoke", "reference"])
def test_clean_results_keeps_what_is_committed(sandbox, study):
    folders = [sandbox / "results" / name for name in ("reference", "gpu", "bench", "smoke", "demo")]
    for folder in [*folders, sandbox / "figures"]:
        folder.mkdir(parents=True)
        (folder / "table.csv").touch()
    (sandbox / "figures" / "STUDY").write_text("smoke\n")
    assert make(sandbox, "clean-results", STUDY=study).returncode == 0
    left = {folder.name for folder in (sandbox / "results").iterdir()}
    gone = {"": {"smoke", "demo"}, "smoke": {"smoke"}, "reference": set()}[study]
    assert left == {folder.name for folder in folders} - gone
    assert (sandbox / "results" / "reference" / "table.csv").exists()
    assert (sandbox / "figures").exists() == (study == "reference")  # figures of another study stay
    shutil.rmtree(sandbox / "results")
    assert make(sandbox, "clean-results", STUDY=study).returncode == 0  # nothing there: nothing to do


@pytest.mark.parametrize("status", [0, 1, 3])
def test_ci_ends_with_pytest_and_its_status(sandbox, status):
    script(sandbox / "scripts" / "setup.sh", "#!/bin/sh\n")
    script(sandbox / ".venv" / "bin" / "python", f"#!/bin/sh\necho '=== 1 failed in 0.1s ==='\nexit {status}\n")
    result = subprocess.run([sandbox / ".ci" / "run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == status
    assert result.stdout.endswith("=== 1 failed in 0.1s ===\n")


def test_ci_fails_when_the_set_up_fails(sandbox):
    script(sandbox / "scripts" / "setup.sh", "#!/bin/sh\nexit 1\n")
    assert subprocess.run([sandbox / ".ci" / "run"], capture_output=True).returncode not in (0, 5)


def test_conda_environment_has_a_supported_python(setup):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert tuple(int(part) for part in python.removeprefix("python=").split(".")) in setup.SUPPORTED
    assert "pip" in environment["dependencies"]
