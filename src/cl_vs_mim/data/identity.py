"""What a finished data set says about itself: its manifest, the hash of its content, and whether it is undamaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file


def read_manifest(folder: Path) -> dict[str, Any]:
    """``manifest.json`` of a finished data set.

    Raises:
        UserError: the folder holds no finished data set.
    """
    path = Path(folder) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["data_hash"], manifest["parameters_sha256"]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no finished data set (no manifest.json); build it with cl_vs_mim.data.build"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; delete the folder and build the data set again") from error
    return manifest


def data_hash(folder: Path) -> str:
    """Hex sha256 that identifies the content of a data set: of its file list with the sha256 of every file.

    It is the same wherever and with however many workers the data set was made. Only the list itself is checked
    here; :func:`verify` checks every file.

    Raises:
        UserError: no finished data set, or ``files.csv`` was changed.
    """
    folder = Path(folder)
    expected = read_manifest(folder)["data_hash"]
    files = folder / "files.csv"
    if not files.is_file() or sha256_file(files) != expected:
        raise UserError(f"{files} is missing or was changed; delete {folder} and build the data set again")
    return expected


def verify(folder: Path) -> int:
    """Check the sha256 of every file; returns how many there are.

    Raises:
        UserError: a file is missing or damaged; the first one is named.
    """
    folder = Path(folder)
    data_hash(folder)
    table = pd.read_csv(folder / "files.csv", dtype=str, keep_default_na=False)
    for path, expected in zip(table["path"], table["sha256"], strict=True):
        file = folder / path
        if not file.is_file():
            raise UserError(f"{file} is missing; delete {folder} and build the data set again")
        if sha256_file(file) != expected:
            raise UserError(f"{file} is damaged (wrong sha256); delete {folder} and build the data set again")
    return len(table)
