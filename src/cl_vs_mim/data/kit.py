"""The image kit: its manifest, checked once, and its pictures, verified by sha256 whenever one is read."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.pictures import opened
from cl_vs_mim.core.tables import read_text_table
from cl_vs_mim.core.untrusted import parsing, plain_name, read_bytes

KINDS = ("object", "background", "texture")
SPLITS = ("train", "test")
COLUMNS = (
    "path",
    "kind",
    "category",
    "name",
    "caption",
    "width",
    "height",
    "source_package",
    "source_path",
    "licence",
    "author",
    "split",
    "near_duplicate_group",
    "sha256",
)

# ------------------------------------------------------------------------------------------------
# Manifest
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KitFile:
    """One row of ``manifest.csv``. Sizes in pixels."""

    path: str
    kind: str
    category: str
    name: str
    caption: str
    width: int
    height: int
    source_package: str
    source_path: str
    licence: str
    author: str
    split: str
    near_duplicate_group: str
    sha256: str


def read_manifest(root: Path) -> tuple[KitFile, ...]:
    """Rows of ``<root>/manifest.csv``, checked.

    Raises:
        UserError: the manifest is missing, lacks a column, has a value that is not allowed, a path or an object's
            name twice, or a near-duplicate group with files in both splits. The row is named.
    """
    path = Path(root) / "manifest.csv"
    if not path.exists():
        raise UserError(f"image kit: {path} does not exist; set data.kit to the folder that holds it")
    table = read_text_table(path, COLUMNS, "restore it from the repository", "image kit:")
    files = []
    for line, row in enumerate(table.itertuples(index=False), start=2):
        problem = _row_problem(row)
        if problem:
            raise UserError(f"image kit: {path}, line {line} ({row.path}): {problem}")
        values = row._asdict()
        files.append(KitFile(**{**values, "width": int(values["width"]), "height": int(values["height"])}))
    _check_uniqueness(files, path)
    _check_groups(files, path)
    return tuple(files)


def _row_problem(row: Any) -> str:
    """What is wrong with one row, all of whose values are text, or an empty string."""
    if row.kind not in KINDS:
        return f"kind {row.kind!r} should be one of {', '.join(KINDS)}"
    if row.split not in SPLITS:
        return f"split {row.split!r} should be one of {', '.join(SPLITS)}"
    if not re.fullmatch(r"[0-9a-f]{64}", row.sha256):
        return f"sha256 {row.sha256!r} is not 64 hexadecimal digits"
    if not all(re.fullmatch("[1-9][0-9]{0,5}", side) for side in (row.width, row.height)):
        return f"size {row.width!r} x {row.height!r} is not two positive whole numbers"
    if row.kind != "background" and not row.category:
        return f"an {row.kind} needs a category" if row.kind == "object" else "a texture needs a material"
    if not row.name or not row.near_duplicate_group:
        return "name and near_duplicate_group must not be empty"
    for column in ("category", "name"):  # which become the names of folders and files
        if getattr(row, column) and not plain_name(getattr(row, column)):
            return f"{column} {getattr(row, column)!r:.80} must be a plain name, without slashes"
    parts = Path(row.path).parts
    if Path(row.path).is_absolute() or ".." in parts or not parts or not row.path.isprintable():
        return "the path must lie inside the kit"
    return ""


def _check_uniqueness(files: list[KitFile], path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for file in files:
        for key in ((file.kind, file.name), ("path", file.path)):
            if key in seen:
                raise UserError(f"image kit: {path}: {key[0]} {key[1]!r} occurs twice")
            seen.add(key)


def _check_groups(files: list[KitFile], path: Path) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for file in files:
        splits[file.near_duplicate_group].add(file.split)
    for group, found in splits.items():
        if len(found) > 1:
            raise UserError(
                f"image kit: {path}: near-duplicate group {group!r} has files in both splits; "
                "put the whole group into one, or held-out images are not held out"
            )


# ------------------------------------------------------------------------------------------------
# Pictures
# ------------------------------------------------------------------------------------------------


@dataclass
class Kit:
    """A checked kit. ``read`` verifies each file against its sha256 the first time and keeps the decoded pixels.

    Decoded pictures are dropped when the kit is pickled, so that a worker process starts small.
    """

    root: Path
    files: tuple[KitFile, ...]
    manifest_sha256: str
    _pixels: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, root: Path) -> Kit:
        """Read and check the manifest of ``root``; see :func:`read_manifest` for the errors raised."""
        root = Path(root)
        files = read_manifest(root)
        return cls(root, files, sha256_file(root / "manifest.csv"))

    def subset(self, keep: Callable[[KitFile], bool]) -> Kit:
        """The same kit with only the files that ``keep`` accepts, for instance by licence."""
        return Kit(self.root, tuple(file for file in self.files if keep(file)), self.manifest_sha256)

    def select(self, kind: str, split: str | None = None) -> tuple[KitFile, ...]:
        """Files of one kind (and one split), in the order of the manifest."""
        return tuple(file for file in self.files if file.kind == kind and split in (None, file.split))

    def read(self, file: KitFile) -> np.ndarray:
        """Pixels of ``file``: (height, width, 4) BGRA for objects, straight alpha; (height, width, 3) BGR else; uint8.

        Raises:
            UserError: the file is missing, its sha256 is wrong, or it is no picture of the size in the manifest.
        """
        if file.path not in self._pixels:
            self._pixels[file.path] = self._decode(file)
        return self._pixels[file.path]

    def _decode(self, file: KitFile) -> np.ndarray:
        path = self.root / file.path
        remedy = "restore it, for instance with: git checkout -- " + str(self.root)
        with parsing(path, "image kit:", remedy):
            content = read_bytes(path, "image")
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise UserError(
                f"image kit: {path} has the wrong sha256 "
                f"({found[:12]}…, the manifest says {file.sha256[:12]}…); {remedy}"
            )
        with opened(path, "image kit:", remedy, content) as picture:
            if picture.size != (file.width, file.height):
                size = f"{picture.width} x {picture.height}"
                raise UserError(
                    f"image kit: {path} is {size} px, the manifest says {file.width} x {file.height}; {remedy}"
                )
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.dtype != np.uint8:
            raise UserError(f"image kit: {path} is not a readable picture of 8 bits; {remedy}")
        if pixels.shape[:2] != (file.height, file.width):
            size = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise UserError(f"image kit: {path} is {size} px, the manifest says {file.width} x {file.height}; {remedy}")
        if file.kind == "object":
            if pixels.ndim != 3 or pixels.shape[2] != 4:
                raise UserError(f"image kit: {path} is an object without an alpha channel; {remedy}")
            return pixels
        if pixels.ndim == 2:
            return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        return np.ascontiguousarray(pixels[..., :3])

    def verify(self) -> None:
        """Check the sha256 of every file without decoding; raises as :meth:`read` does."""
        for file in self.files:
            self._check_hash(file)

    def _check_hash(self, file: KitFile) -> None:
        path = self.root / file.path
        if not path.is_file() or sha256_file(path) != file.sha256:
            self._decode(file)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pixels": {}}
