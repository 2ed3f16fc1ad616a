"""What a finished data set says about itself: its manifest, the hash of its content, and whether it is undamaged.

A composed data set has ``files.csv``, the sha256 of every file, and is identified by the hash of that list. An
adopted data set has no such list: it is identified by the names and sizes of its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file, sha256_json
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.tables import read_text_table
from cl_vs_mim.core.untrusted import read_json

MANIFEST = "manifest.json"
FILES = "files.csv"  # of a composed data set: path and sha256 of every file


def read_manifest(folder: Path) -> dict[str, Any]:
    """``manifest.json`` of a finished data set.

    Raises:
        UserError: the folder holds no finished data set.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = read_json(path)
        str(manifest["data_hash"])
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no finished data set (no {MANIFEST}); build it with: cl-vs-mim compose"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; delete the folder and build the data set again") from error
    return manifest


def composed(folder: Path) -> bool:
    """Whether a finished data set was composed here, so that the sha256 of every file is known."""
    return "parameters_sha256" in read_manifest(folder)


def data_hash(folder: Path) -> str:
    """Hex sha256 that identifies the content of a data set.

    It is the same wherever and with however many workers the data set was made. Of a composed one only the list of
    files is checked here; :func:`verify` checks every file.

    Raises:
        UserError: no finished data set, or ``files.csv`` was changed.
    """
    folder = Path(folder)
    expected = str(read_manifest(folder)["data_hash"])
    files = folder / FILES
    if composed(folder) and (not files.is_file() or sha256_file(files) != expected):
        raise UserError(f"{files} is missing or was changed; delete {folder} and build the data set again")
    return expected


def verify(folder: Path, quiet: bool = False) -> int:
    """Check the sha256 of every file of a composed data set; returns how many there are.

    Raises:
        UserError: files are missing or changed; the first few are named.
    """
    folder = Path(folder)
    data_hash(folder)
    rows = read_text_table(folder / FILES, ("path", "sha256"), "delete the folder and build the data set again")
    wrong = []
    for row in progress(rows.itertuples(), total=len(rows), desc=f"checksums {folder.name}", unit="file", quiet=quiet):
        path = folder / row.path
        if not path.is_file():
            wrong.append(f"{row.path} is missing")
        elif sha256_file(path) != row.sha256:
            wrong.append(f"{row.path} is changed")
    if wrong:
        more = f" … ({len(wrong)} in all)" if len(wrong) > 3 else ""
        raise UserError(f"{folder}: {'; '.join(wrong[:3])}{more}; delete the folder and build the data set again")
    return len(rows)


def content_hash(folder: Path, paths: Sequence[str] | None = None) -> str:
    """Hex sha256 over names and sizes of files, for a data set that is too large to be read.

    Args:
        folder: the data set's folder.
        paths: those of its files that count, relative to it; all by default.
    """
    if paths is None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
    else:
        files = [folder / path for path in paths]
    rows = progress(files, total=len(files), desc=f"list {folder.name}", unit="file")
    return sha256_json([[path.relative_to(folder).as_posix(), path.stat().st_size] for path in rows])
