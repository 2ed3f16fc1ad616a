"""Renew `requirements.lock` from pyproject.toml, overrides.txt and constraints.txt (`make lock`).

The first line of the lock records what it was made from, so that a test can tell when it is out of date. Pins that
still satisfy pyproject.toml are kept unless `--upgrade` is given. No index address is written.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tomllib

import setup
from steps import ROOT, STATE, environment

MARK = "# made by `make lock` from inputs with sha256 "


def inputs_digest(root=ROOT):
    """sha256 of all that the lock depends on; comments and formatting do not count."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    inputs = [project["requires-python"], project["dependencies"], project["optional-dependencies"]]
    for name in ("overrides.txt", "constraints.txt"):
        lines = (line.split("#")[0].strip() for line in (root / name).read_text().splitlines())
        inputs.append([line for line in lines if line])
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def recorded_digest(root=ROOT):
    """The digest in the first line of the lock, or None."""
    first = (root / "requirements.lock").read_text().split("\n", 1)[0]
    return first.removeprefix(MARK) if first.startswith(MARK) else None


def main():
    parser = argparse.ArgumentParser(description="Renew requirements.lock.")
    parser.add_argument("--upgrade", action="store_true", help="the newest versions that pyproject.toml allows")
    arguments = parser.parse_args()
    with setup.only_one() as lock:
        uv = setup.install_uv(sys.executable, lock)
        draft = STATE / "requirements.lock"
        shutil.copy(ROOT / "requirements.lock", draft)  # uv keeps its pins where it can
        command = [uv, "pip", "compile", "pyproject.toml", "--extra", "all", "--python-version", "3.11", "--universal"]
        command += ["--generate-hashes", "--no-annotate", "--no-header", "--quiet", "--output-file", draft]
        command += ["--override", "overrides.txt", "--constraint", "constraints.txt"]
        command += ["--upgrade"] if arguments.upgrade else []
        status = subprocess.run(command, cwd=ROOT, env=environment()).returncode
        if status:
            sys.exit(status)
        renewed = f"{MARK}{inputs_digest()}\n{draft.read_text()}"
        draft.write_text(renewed)
        draft.replace(ROOT / "requirements.lock")


if __name__ == "__main__":
    main()
