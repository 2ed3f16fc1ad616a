"""Files that are either whole or absent: atomic writes, hashes, tidy tables and the head of every result row."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cl_vs_mim.errors import UserError

if TYPE_CHECKING:
    import torch

# ------------------------------------------------------------------------------------------------
# Hashes
# ------------------------------------------------------------------------------------------------


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------
# Atomic writes
# ------------------------------------------------------------------------------------------------

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose a results folder that can be written",
    errno.EACCES: "permission denied; make the folder writable or choose another one",
    errno.EPERM: "operation not permitted; make the folder writable or choose another one",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "a folder stands where the file should go",
}


@contextmanager
def clear_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors into a :class:`UserError` that names ``path`` and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise UserError(f"cannot write {path}: {_REMEDIES[error.errno]}") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it on success and vanishes on failure.

    The temporary name keeps the suffix, because many writers choose their format by it. The content is
    flushed to the disk before the rename, so a crash leaves the old file or the new one, never a part.

    Raises:
        UserError: the folder is full, read-only or not a folder.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        with clear_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):  # it is gone, or its folder never was
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


# ------------------------------------------------------------------------------------------------
# Tidy tables
# ------------------------------------------------------------------------------------------------


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a tidy table atomically, as Parquet or CSV by the suffix of ``path``."""
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table written by :func:`write_table`.

    Raises:
        UserError: the file is missing or is not a table.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"table {path} does not exist; build it with: snakemake --cores all {path}")
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise UserError(f"table {path} cannot be read ({error}); delete it and rebuild it") from error


# ------------------------------------------------------------------------------------------------
# The head of every row
# ------------------------------------------------------------------------------------------------

HEAD = ("study", "git_commit", "config_hash", "data_hash", "packages", "device")
_PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "scipy", "pandas")


@cache
def git_commit() -> str:
    """Commit of the checkout that holds this package, with ``+dirty`` when tracked files differ; else ``unknown``."""
    root = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        dirty = "+dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "--short=12", "HEAD") + dirty
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@cache
def package_versions() -> str:
    """Versions of the packages that decide the numbers, as ``name version; …``, Python first."""
    versions = [f"python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:  # Fabric also comes inside other packages
            versions.append(f"{name} not installed as such")
    return "; ".join(versions)


def device_name(device: torch.device) -> str:
    """Human-readable name of a device, such as ``NVIDIA H200`` or ``CPU (Intel(R) Xeon(R) …)``."""
    if device.type == "cuda":
        import torch  # here: reading a config or drawing a figure should not wait for it

        return torch.cuda.get_device_name(device)
    return f"CPU ({_cpu_model()})"


@cache
def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def row_head(*, study: str, config_hash: str, data_hash: str, device: torch.device) -> dict[str, str]:
    """The columns named in :data:`HEAD`; a table adds model, method, seed, depth, head and image to them."""
    return {
        "study": study,
        "git_commit": git_commit(),
        "config_hash": config_hash,
        "data_hash": data_hash,
        "packages": package_versions(),
        "device": device_name(device),
    }


def with_head(frame: pd.DataFrame, head: Mapping[str, str]) -> pd.DataFrame:
    """Put the head's constant columns in front, as categories so that they cost next to nothing."""
    constants = {name: pd.Categorical.from_codes([0] * len(frame), [value]) for name, value in head.items()}
    return pd.concat([pd.DataFrame(constants, index=frame.index), frame], axis=1)
