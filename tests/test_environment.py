"""The environment is the locked one, the lock is up to date, and the package does without the extras."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
STAMP = Path(sys.prefix) / "cl-vs-mim-setup.json"

made_by_set_up = pytest.mark.skipif(not STAMP.exists(), reason="scripts/setup.py did not make this environment")

# Installed without being in requirements.lock.
ALLOWED = {
    "cl-vs-mim": "this project",
    "sal-detectron2": "detectron2.lock: its wheel has another Python's tag",
    "pip": "set-up by --into-active: what brought uv (conda, venv)",
    "wheel": "set-up by --into-active: conda installs it with pip",
}


def pins(lock: str) -> dict[str, str]:
    """Name -> version of every pin of a lock file whose marker holds here."""
    lines = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    requirements = [Requirement(line.split("--hash")[0]) for line in lines if line.strip() and line[0] != "#"]
    assert all(len(r.specifier) == 1 and str(r.specifier).startswith("==") for r in requirements)
    kept = [r for r in requirements if r.marker is None or r.marker.evaluate()]
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in kept}


def installed() -> dict[str, str]:
    """Name -> version of what lies in site-packages; conda's own packages and PYTHONPATH do not count."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = metadata.distributions(path=list(folders))
    ours = [d for d in found if (d.read_text("INSTALLER") or "").strip() != "conda" or d.name == "setuptools"]
    return {canonicalize_name(d.name): d.version for d in ours}


# ----------------------------------------------------------------------------------------------------------------------
# Installed = locked
# ----------------------------------------------------------------------------------------------------------------------
@made_by_set_up
def test_every_pin_is_installed_at_its_version():
    there = installed()
    locked = pins("requirements.lock") | pins("detectron2.lock")
    assert len(locked) > 100
    wrong = {name: (version, there.get(name)) for name, version in locked.items() if there.get(name) != version}
    assert not wrong, f"package: (locked, installed): {wrong}"


@made_by_set_up
def test_nothing_else_is_installed():
    extra = installed().keys() - pins("requirements.lock").keys() - ALLOWED.keys()
    assert not extra


@made_by_set_up
def test_detectron2_left_no_stray_package():
    assert not (Path(sysconfig.get_path("purelib")) / "tools").exists()


# ----------------------------------------------------------------------------------------------------------------------
# The lock
# ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lock", ["requirements.lock", "detectron2.lock", "requirements-uv.lock"])
def test_every_pin_has_a_hash_and_no_address(lock):
    lines = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    for line in (line for line in lines if line and line[0] != "#"):
        requirement, *hashes = line.split(" --")  # nothing but hashes may follow: no option can name a place
        assert hashes and all(re.fullmatch(r"hash=sha256:[0-9a-f]{64} *", one) for one in hashes), line[:80]
        assert Requirement(requirement).url is None and ":/" not in requirement, line[:80]


def test_lock_is_up_to_date_with_pyproject(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import lock

    assert lock.recorded_digest() == lock.inputs_digest(), "run `make lock` and commit requirements.lock"


def test_lock_depends_on_dependencies_and_not_on_comments(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import lock

    for name in ("pyproject.toml", "overrides.txt", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text() + "\n# a comment\n")
    assert lock.inputs_digest(tmp_path) == lock.inputs_digest()
    for name, old, new in [
        ("pyproject.toml", '"tqdm>=4.66"', '"tqdm>=4.67"'),
        ("overrides.txt", "mmengine;", "mmcv;"),
        ("constraints.txt", "torch==", "torch=="),
    ]:
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new) if old != new else text + "tqdm<9\n")
        assert lock.inputs_digest(tmp_path) != lock.inputs_digest(), name
        (tmp_path / name).write_text(text)


def test_no_committed_file_names_a_package_index():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    hosts = ["py" + "pi.org", "python" + "hosted.org", "py" + "torch.org/whl", "conda." + "anaconda.org"]
    naming = []
    for path in (ROOT / name for name in listing.stdout.split("\0") if name):
        content = path.read_bytes() if path.is_file() else b""
        naming += [f"{path.relative_to(ROOT)}: {host}" for host in hosts if host.encode() in content]
    assert not naming


# ----------------------------------------------------------------------------------------------------------------------
# The package without the extras (the GPU machine has none of them)
# ----------------------------------------------------------------------------------------------------------------------
IMPORT_ALL = """
import importlib, pkgutil, sys

# the modules of these packages, which nothing else imports
NEED_AN_EXTRA = ("cl_vs_mim.transfer.detection.", "cl_vs_mim.transfer.segmentation.")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"snakemake", "detectron2", "mmseg", "mmengine", "mmcv"}:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocker())
import cl_vs_mim

def fail(name):
    raise

names = [m.name for m in pkgutil.walk_packages(cl_vs_mim.__path__, "cl_vs_mim.", onerror=fail)]
for name in names:
    if not name.endswith("__main__") and not name.startswith(NEED_AN_EXTRA):
        importlib.import_module(name)
print(*names)
"""


@pytest.mark.slow
def test_every_module_imports_without_the_extras():
    result = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cl_vs_mim.encoder.model" in result.stdout.split()
