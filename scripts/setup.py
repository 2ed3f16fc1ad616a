"""Make `.venv` from the lock files, or fill the active environment: `make` calls this before everything else.

Plain standard library, for any Python from 3.8 on, so that it can say what is wrong with the wrong one.

    python3 scripts/setup.py                  make or renew .venv (nothing to do: well under a second)
    python scripts/setup.py --into-active     install into the running Python's own environment (conda, venv)
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from steps import DISK_GB, LOG, ROOT, STATE, SetupError, diagnosis, run

VENV = ROOT / ".venv"
STAMP = "cl-vs-mim-setup.json"  # in the environment itself; says "complete" once everything is installed
INPUTS = ["requirements.lock", "detectron2.lock", "requirements-uv.lock", "pyproject.toml", "scripts/setup.py"]
SUPPORTED = ((3, 11), (3, 12))
PYTHON_NAMES = ("python3.12", "python3.11", "python3", "python")


# ----------------------------------------------------------------------------------------------------------------------
# What is there: a Python, disk space, an environment
# ----------------------------------------------------------------------------------------------------------------------
def version_of(python):
    """(major, minor, micro) of an interpreter, or None where it does not start (a pyenv shim, a broken link)."""
    command = [str(python), "-c", "import sys; print(*sys.version_info[:3])"]
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=True)
        return tuple(int(part) for part in result.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def dotted(version):
    return ".".join(map(str, version))


def find_python(asked, path):
    """The interpreter asked for, or else the first supported one on the search path."""
    places = [Path(folder) / name for name in PYTHON_NAMES for folder in path.split(os.pathsep) if folder]
    found = []
    for python in [asked] if asked else [place for place in places if place.is_file()]:
        version = version_of(python)
        if version and version[:2] in SUPPORTED:
            return str(python)
        found.append(f"{python} ({dotted(version) if version else 'does not start'})")
    raise SetupError(
        f"Python 3.11 or 3.12 is needed; found {', '.join(found) or 'none'}. "
        "Install one of them, or name it: make PYTHON=/path/to/python3.12 ..."
    )


def check_disk(folder):
    free = shutil.disk_usage(str(folder)).free / 1e9
    if free < DISK_GB:
        raise SetupError(
            f"no disk space: the set-up needs {DISK_GB} GB in {folder}, {free:.1f} GB are free. "
            "Free some, or clone the project on a larger disk; then run the same command again."
        )


def fingerprint():
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
    return digest.hexdigest()


def write_stamp(prefix, state, version):
    stamp = {"state": state, "prefix": str(prefix.resolve()), "python": dotted(version[:2]), "inputs": fingerprint()}
    partial = prefix / f"{STAMP}.partial"
    partial.write_text(json.dumps(stamp))
    partial.replace(prefix / STAMP)


def condition(prefix, asked=None):
    """What stands at ``prefix``, for the Python version that was ``asked`` for (None: any supported).

    absent; foreign: not made by this set-up; broken: unfinished, moved, or with another Python; stale: a lock has
    changed since; ready.
    """
    if not prefix.is_dir() or not any(prefix.iterdir()):
        return "absent"
    if not (prefix / STAMP).exists():
        return "foreign"
    stamp = json.loads((prefix / STAMP).read_text())
    version = version_of(prefix / "bin" / "python")
    if stamp["state"] != "complete" or version is None or dotted(version[:2]) != stamp["python"]:
        return "broken"
    if stamp["prefix"] != str(prefix.resolve()) or (asked and asked[:2] != version[:2]):
        return "broken"  # moved: the scripts in bin/ hold the old path
    return "ready" if stamp["inputs"] == fingerprint() else "stale"


# ----------------------------------------------------------------------------------------------------------------------
# The steps
# ----------------------------------------------------------------------------------------------------------------------
def install_uv(python, lock):
    """The pinned uv, verified by hash, in a folder of its own: outside the environment that it fills."""
    requirements = ROOT / "requirements-uv.lock"
    home = STATE / f"uv-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    if not home.exists():
        partial, pip = STATE / "uv.partial", [python, "-m", "pip"]
        shutil.rmtree(partial, ignore_errors=True)
        if subprocess.run([*pip, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            run("pip, to fetch uv with", [python, "-m", "venv", "--clear", STATE / "pip"], lock)
            pip = [STATE / "pip" / "bin" / "python", "-m", "pip"]
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--target", partial, "-r", requirements]
        run("uv, the installer", [*pip, "install", *options], lock)
        partial.replace(home)
    return home / "bin" / "uv"


def make_venv(prefix, base, lock):
    """An empty environment. It gets no pip: uv fills it, and plain pip would mix in what is not in the lock."""
    prefix.mkdir(exist_ok=True)
    write_stamp(prefix, "unfinished", version_of(base))
    for entry in prefix.iterdir():  # not the folder itself: it may be a link to a larger disk
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != STAMP:
            entry.unlink()
    run(f"environment with {base} {dotted(version_of(base))}", [base, "-m", "venv", "--without-pip", prefix], lock)


def install_locked(prefix, python, uv, how, lock):
    """Fill the environment at ``prefix`` from the lock files; ``how`` is uv's subcommand and its options."""
    write_stamp(prefix, "unfinished", version_of(python))
    # Compiled now, once, and not in the first minute of use; nor again in every process where
    # PYTHONDONTWRITEBYTECODE is set.
    into = ["--no-progress", "--compile-bytecode", "--python", python]

    # The few packages that come as source (antlr4, fvcore, …) are built with the setuptools of the lock.
    locked = ["--require-hashes", "--build-constraints", "requirements.lock"]
    title = "packages of requirements.lock (2.9 GB to fetch the first time)"
    run(title, [uv, "pip", *how, "requirements.lock", *into, *locked], lock)

    # detectron2's only wheel on the index is tagged for Python 3.10 although it holds no compiled code. It also holds
    # a stray top-level package "tools", which stays behind in the staging folder.
    staging = STATE / "detectron2"
    shutil.rmtree(staging, ignore_errors=True)
    tagged = ["--no-deps", "--require-hashes", "--python-version", "3.10", "--target", staging]
    run("detectron2", [uv, "pip", "install", *into, *tagged, "-r", "detectron2.lock"], lock)
    query = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site_packages = Path(subprocess.run(query, stdout=subprocess.PIPE, check=True).stdout.decode().strip())
    for source in [staging / "detectron2", *staging.glob("*.dist-info")]:
        shutil.rmtree(site_packages / source.name, ignore_errors=True)
        shutil.move(str(source), str(site_packages / source.name))
    shutil.rmtree(staging)

    editable = ["--no-deps", "--no-build-isolation", "--editable", "."]
    run("this project", [uv, "pip", "install", *into, *editable], lock)
    write_stamp(prefix, "complete", version_of(python))


# ----------------------------------------------------------------------------------------------------------------------
# Command line
# ----------------------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def only_one():
    """One set-up of this checkout at a time; yields the open lock file."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is running: waiting until it ends.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        LOG.write_text("")
        yield lock


def set_up_venv(asked):
    """Bring .venv from whatever condition it is in to "ready"; False if it was already."""
    version = version_of(find_python(asked, "")) if asked else None
    if condition(VENV, version) == "ready":
        return False
    with only_one() as lock:
        before = condition(VENV, version)  # again: another set-up may have done the work
        if before == "ready":
            return False
        if before == "foreign":
            raise SetupError(
                f"{VENV} is there but this set-up did not make it. Delete it (rm -rf {VENV}) and run the same command "
                f"again, or have it filled: {VENV}/bin/python scripts/setup.py --into-active"
            )
        print(f"Setting up {VENV}", flush=True)
        python = VENV / "bin" / "python"
        base = python if before == "stale" else find_python(asked, os.environ["PATH"])
        if before != "stale":
            check_disk(ROOT)
            make_venv(VENV, base, lock)
        install_locked(VENV, python, install_uv(base, lock), ["sync"], lock)
    return True


def set_up_active():
    """Add to the running Python's environment, whatever it is, and remove nothing from it; True."""
    prefix = Path(sys.prefix)
    conda = (prefix / "conda-meta").is_dir() and not (prefix / "condabin").is_dir()  # conda's base has both
    if sys.prefix == sys.base_prefix and not conda:
        raise SetupError("no environment is active: activate one (conda activate …, source …/bin/activate) first.")
    find_python(sys.executable, "")
    with only_one() as lock:
        before = condition(prefix)
        print(f"Setting up {prefix}", flush=True)
        check_disk(prefix)
        how = ["install", "--no-deps", *(["--reinstall"] if before == "broken" else []), "-r"]
        install_locked(prefix, sys.executable, install_uv(sys.executable, lock), how, lock)
    return True


def main():
    parser = argparse.ArgumentParser(description="Make .venv from the lock files.")
    parser.add_argument("--into-active", action="store_true", help="install into this Python's own environment instead")
    into_active = parser.parse_args().into_active
    started = time.monotonic()
    try:
        worked = set_up_active() if into_active else set_up_venv(os.environ.get("PYTHON"))
    except SetupError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # our own reading and writing
        sys.exit(f"error: {diagnosis(str(error))}")
    except KeyboardInterrupt:
        sys.exit("Set-up interrupted: run the same command again.")
    if worked:
        print(f"Set-up done in {time.monotonic() - started:.0f} s.", flush=True)


if __name__ == "__main__":
    main()
