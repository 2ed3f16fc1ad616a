"""Tidy tables, and the head of every result row: what the number was made by."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import atomic_path
from cl_vs_mim.core.untrusted import limits, open_regular, parsing

if TYPE_CHECKING:
    import torch

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
    with parsing(path, "table", "delete it and rebuild it"), open_regular(path, "table") as stream:
        if path.suffix != ".parquet":
            return pd.read_csv(stream)
        _require_cells(path, stream)
        table = pd.read_parquet(stream)
    if "value" in table and not pd.api.types.is_numeric_dtype(table["value"]):
        raise UserError(f"table {path}: its column value holds no numbers; delete it and rebuild it")
    return table


def _require_cells(path: Path, stream: IO[bytes]) -> None:
    """What the file declares to hold must fit: repeated values take no room in a Parquet file, but do in memory."""
    import pyarrow.parquet as pq  # here: drawing from CSV should not wait for it

    stated = pq.ParquetFile(stream).metadata
    cells, most = stated.num_rows * max(1, stated.num_columns), limits()
    unpacked = sum(stated.row_group(group).total_byte_size for group in range(stated.num_row_groups))
    if cells > most.table_megacells * 1_000_000 or unpacked > most.bytes_of("table"):
        raise UserError(
            f"table {path} declares {stated.num_rows:,} rows of {stated.num_columns} columns, more than is read; if it "
            "is as it should be, raise limits.table_megacells and limits.table_megabytes in the study"
        )
    stream.seek(0)


def read_text_table(path: Path, columns: Sequence[str], remedy: str, what: str = "table") -> pd.DataFrame:
    """These columns of a CSV table, every value as text.

    Args:
        path: the file.
        columns: those that it must have.
        remedy: what to do where it is at fault.
        what: how it is called in an error.

    Raises:
        UserError: it is missing, no ordinary file, too large, no CSV in UTF-8, or lacks a column.
    """
    with parsing(path, what, remedy), open_regular(path, "table") as stream:
        table = pd.read_csv(stream, dtype=str, keep_default_na=False, encoding="utf-8")
    for name in columns:
        if name not in table:
            raise UserError(f"{what} {path} has no column {name!r}; {remedy}")
    return table[list(columns)]


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


def with_columns(frame: pd.DataFrame, constants: Mapping[str, Any]) -> pd.DataFrame:
    """Constant columns in front; strings as categories, whole numbers as int32, others as float64."""
    strings = {name: value for name, value in constants.items() if isinstance(value, str)}
    for name, value in constants.items():
        if name not in strings:
            frame = frame.assign(**{name: np.int32(value) if isinstance(value, int | np.integer) else value})
    return with_head(frame, strings)
