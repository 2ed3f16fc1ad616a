"""Files that are either whole or absent: atomic writes and hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.untrusted import open_regular

DECIDES_NO_RESULT = True

# ------------------------------------------------------------------------------------------------
# Hashes
# ------------------------------------------------------------------------------------------------


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with open_regular(path) as stream:
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
    errno.EFBIG: "the file is larger than this system allows; raise the limit (ulimit -f) or use another disk",
    errno.EIO: "the disk reports an error; see to it, and run the same command again",
    errno.ESTALE: "the network disk has lost it; run the same command again",
}
_GONE = "it, or a folder on the way to it, was removed meanwhile; run the same command again"


def remedy(error: OSError) -> str | None:
    """What a person can do about an error of the operating system; None where that is not known."""
    return _GONE if error.errno == errno.ENOENT else _REMEDIES.get(error.errno or 0)


@contextmanager
def clear_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors into a :class:`UserError` that names ``path`` and the remedy."""
    try:
        yield
    except (OSError, RuntimeError) as raised:
        error = raised if isinstance(raised, OSError) else raised.__context__
        if not isinstance(error, OSError):  # it is one where torch's writer fails again when it closes
            raise
        gone = error.errno == errno.ENOENT and error.filename is not None
        if gone and not Path(os.fsdecode(error.filename)).is_relative_to(path.parent):
            raise  # something else than what is written
        if (what := remedy(error)) is None:
            raise
        raise UserError(f"cannot write {path}: {what}") from raised


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it on success and vanishes on failure.

    The temporary name keeps the suffix, because many writers choose their format by it. The content is
    flushed to the disk before the rename, so a crash leaves the old file or the new one, never a part. What a process
    that was killed has left of the same file is removed; one that is alive holds a lock on its own.

    Raises:
        UserError: the folder is full, read-only, not a folder, or removed meanwhile.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        with clear_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            with temporary.open("xb") as held:
                lock(held)
                yield temporary
                with temporary.open("rb") as stream:
                    os.fsync(stream.fileno())
                temporary.replace(path)
    finally:
        with suppress(OSError):  # it is gone, or its folder never was
            temporary.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files beside ``path`` that processes left which were killed while they wrote it."""
    pattern = re.compile(re.escape(f".{path.stem}.") + "[0-9a-f]{8}" + re.escape(f".part{path.suffix}"))
    with suppress(OSError), os.scandir(path.parent) as entries:
        for name in [entry.name for entry in entries if pattern.fullmatch(entry.name)]:
            with suppress(OSError), path.with_name(name).open("rb") as stream:
                if lock(stream):
                    path.with_name(name).unlink()


def lock(stream: IO[Any]) -> bool:
    """Hold a file for this process until it ends, however it ends; False: another one does, or nobody can here."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also of network disks without locks
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")
