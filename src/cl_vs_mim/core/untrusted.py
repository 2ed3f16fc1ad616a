"""The one gate for files of others: what kind of file, how large, and what a parser may do to us.

Every checkpoint, image, annotation, YAML and table passes here before anything parses it. A file that others made may
be a pipe that never ends, a device, a few bytes that unpack to gigabytes, or garbage; each ends in one
:class:`cl_vs_mim.core.errors.UserError` that names the file. The limits stand in :class:`Limits` and nowhere else; a
study that needs larger ones says so under ``limits``.
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from cl_vs_mim.core.errors import UserError

DECIDES_NO_RESULT = True

Kind = Literal["checkpoint", "image", "annotation", "table", "yaml"]

_MEGABYTE = 1_000_000
_VARIABLE = "CL_VS_MIM_LIMITS"  # so that the processes that a command starts have the same
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


# ------------------------------------------------------------------------------------------------
# Limits
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What no file may exceed. Above the largest of ImageNet, COCO and ADE20K and of published ViT-g checkpoints."""

    checkpoint_megabytes: int = 64_000
    image_megabytes: int = 256
    image_megapixels: int = 89  # Pillow's own: above it, it warns of a decompression bomb
    image_ratio: int = 100  # longer side by shorter side
    annotation_megabytes: int = 4_000
    table_megabytes: int = 8_000
    table_megacells: int = 4_000  # rows by columns of a Parquet file, of which a few bytes can declare any number
    yaml_megabytes: int = 1

    def bytes_of(self, kind: Kind) -> int:
        """The largest file of a kind."""
        return int(getattr(self, f"{kind}_megabytes")) * _MEGABYTE


def limits() -> Limits:
    """Those of the study at hand, else the defaults."""
    stated = os.environ.get(_VARIABLE)
    return Limits(**json.loads(stated)) if stated else Limits()


def set_limits(changed: Limits) -> None:
    """Let these hold from here on, in this process and in those that it starts."""
    if changed == Limits():
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = json.dumps(asdict(changed))


# ------------------------------------------------------------------------------------------------
# Opening
# ------------------------------------------------------------------------------------------------


def require_regular(path: Path, kind: Kind | None = None) -> int:
    """Size of a file in bytes, when it is an ordinary file and, as one of its kind, not too large. Links are followed.

    Raises:
        UserError: it is a folder, pipe, device or socket, or too large.
        OSError: it is missing, or must not be looked at.
    """
    return _sound(path, os.stat(path), kind)  # noqa: PTH116 - also asked in a loop over a million images


def _sound(path: Path, found: os.stat_result, kind: Kind | None) -> int:
    if not stat.S_ISREG(found.st_mode):
        what = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise UserError(f"{path} is {what}, not a file; give the path of a file")
    if kind is not None and found.st_size > limits().bytes_of(kind):
        raise _too_large(path, found.st_size, kind)
    return found.st_size


def _too_large(path: Path, size: int, kind: Kind) -> UserError:
    most = limits().bytes_of(kind) / _MEGABYTE
    return UserError(
        f"{path} has {size / _MEGABYTE:,.0f} MB, more than the {most:,.0f} MB of a file of kind {kind!r}; "
        f"if it is as it should be, raise limits.{kind}_megabytes in the study"
    )


@contextmanager
def open_regular(path: Path, kind: Kind | None = None) -> Iterator[io.BufferedReader]:
    """An ordinary file that is not too large, open for reading; errors as of :func:`require_regular`."""
    require_regular(path, kind)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # should it have become a pipe meanwhile
    with os.fdopen(descriptor, "rb") as stream:
        _sound(path, os.fstat(descriptor), kind)
        yield stream


def read_bytes(path: Path, kind: Kind) -> bytes:
    """The content; errors as of :func:`require_regular`."""
    most = limits().bytes_of(kind)
    with open_regular(path, kind) as stream:
        content = stream.read(os.fstat(stream.fileno()).st_size + 1)  # not ``most``, which would be allocated
        while more := stream.read(_MEGABYTE):  # a file of /proc says that it is empty; others grow
            content += more
            if len(content) > most:
                raise _too_large(path, len(content), kind)
    return content


def read_text(path: Path, kind: Kind) -> str:
    """The content as UTF-8; besides, UnicodeDecodeError."""
    return read_bytes(path, kind).decode("utf-8")


def read_json(path: Path, kind: Kind = "annotation") -> Any:
    """The content as JSON, of no greater depth than Python can go; besides, ValueError."""
    try:
        return json.loads(read_text(path, kind))
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error


# ------------------------------------------------------------------------------------------------
# Parsing
# ------------------------------------------------------------------------------------------------


@contextmanager
def parsing(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Around the parser of a file, and nothing else: whatever it raises becomes one line.

    Parsers are not made for garbage and fail on it in any way.

    Args:
        path: the file.
        what: how it is called in front of its path, such as ``table``; may be empty.
        remedy: what to do about it.

    Raises:
        UserError: the parser failed; those that it raises itself pass as they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} {path} cannot be read ({reason(error)}); {remedy}".lstrip()) from error


def reason(error: BaseException) -> str:
    """What an exception says, in one short line."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(said.split()) or type(error).__name__
    return line if len(line) <= 200 else line[:199] + "…"


def plain_name(name: str) -> bool:
    """Whether text can be the name of one file or folder and leads nowhere else."""
    return (
        bool(name) and name not in (".", "..") and len(name) <= 200 and name.isprintable() and not set(name) & {*"/\\"}
    )


def require_inside(folder: Path, name: str) -> None:
    """Hold a file's name that was made from names of others inside the folder that it is written to.

    Raises:
        UserError: it would lead out.
    """
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
        raise UserError(
            f"{folder}: a file would be named {name!r}, outside the folder; correct the names it is made of"
        )
