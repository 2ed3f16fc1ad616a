"""Is a data set whole? Asked once, before anything is trained on it.

Layout (ImageFolder, COCO, ADE20K), the number of images of each part, and checksums: of every file of a composed data
set, and of the files that the study names for a data set of others. A data set that lies elsewhere on the disk
(``data`` of the study names its folders) is linked into the study's results first, so that every later stage finds it
where a composed one would be; its files are only read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_vs_mim.config import FolderData, KitData
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_json, write_json
from cl_vs_mim.core.progress import progress
from cl_vs_mim.data.ade20k import TRAINING, VALIDATION, read_split
from cl_vs_mim.data.coco import read_coco
from cl_vs_mim.data.identity import MANIFEST, composed, content_hash, data_hash, verify
from cl_vs_mim.data.images import index_image_folder

_MD5_DIGITS = 32

# ------------------------------------------------------------------------------------------------
# Layout
# ------------------------------------------------------------------------------------------------


def count_images(dataset: str, folder: Path) -> dict[str, int]:
    """Images by part, such as ``objects/train``, of a data set whose layout is right.

    Raises:
        UserError: it is not; the message names the file or folder.
    """
    if dataset == "objects":
        splits = {name: index_image_folder(folder / name) for name in ("train", "val")}
        trained, held_out = (set(index.classes) for index in splits.values())
        if odd := sorted(held_out - trained):
            raise UserError(f"{folder / 'val'} has classes that {folder / 'train'} lacks: {', '.join(odd[:5])}")
        return {f"objects/{name}": len(index) for name, index in splits.items()}
    if dataset == "scenes":
        train, val = read_coco(folder / "coco")
        counts = {"coco/train2017": train.count, "coco/val2017": val.count}
        for name in (TRAINING, VALIDATION):
            counts[f"ade20k/{name}"] = len(read_split(folder / "ade20k", name))
        return counts
    if (folder / "stylized").is_dir():
        folder = folder / "stylized"  # a link, which rglob does not follow
    return {"stylized": sum(1 for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))}


def compare_counts(found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Every part has as many images as it should.

    Raises:
        UserError: one does not; all such parts are listed.
    """
    wrong = [
        f"{part} has {found[part]:,} images instead of {expected[part]:,}"
        for part in found
        if expected.get(part, found[part]) != found[part]
    ]
    if wrong:
        raise UserError(f"{'; '.join(wrong)}; fetch what is missing, or correct data.counts in the study")


# ------------------------------------------------------------------------------------------------
# Content
# ------------------------------------------------------------------------------------------------


def check_sums(checksums: Mapping[str, str]) -> None:
    """Files have their published md5 or sha256.

    Raises:
        UserError: one is missing or differs.
    """
    for name, expected in progress(checksums.items(), total=len(checksums), desc="checksums", unit="file"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{path}, named in data.checksums, does not exist")
        kind = "md5" if len(expected) == _MD5_DIGITS else "sha256"
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest()
        if found != expected.lower():
            raise UserError(f"{path} has {kind} {found} instead of {expected}; fetch it again")


# ------------------------------------------------------------------------------------------------
# Data sets of others
# ------------------------------------------------------------------------------------------------


def links(data: FolderData, dataset: str) -> dict[str, Path]:
    """Names in the study's folder of a data set -> folders on the disk."""
    if dataset == "objects":
        return {name: data.objects / name for name in ("train", "val")}
    if dataset == "scenes":
        return {"coco": data.coco, "ade20k": data.ade20k}
    return {"stylized": data.stylized}


def adopt(data: FolderData, dataset: str, folder: Path) -> dict[str, int]:
    """Link the folders of a data set below ``folder`` and write a manifest, last, when all has been checked.

    Returns:
        the number of images of each part.

    Raises:
        UserError: a folder does not exist, or the data set is not whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in links(data, dataset).items():
        if not target.is_dir():
            raise UserError(f"{target}, where the study looks for {dataset} ({name}), does not exist")
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(target.resolve(), target_is_directory=True)
    counts = count_images(dataset, folder)
    compare_counts(counts, data.counts)
    hashes = {name: content_hash(target) for name, target in links(data, dataset).items()}
    manifest = {"dataset": dataset, "data_hash": sha256_json(hashes), "images": sum(counts.values()), "counts": counts}
    write_json(folder / MANIFEST, manifest)
    return counts


# ------------------------------------------------------------------------------------------------
# All of it
# ------------------------------------------------------------------------------------------------


def check(data: KitData | FolderData, dataset: str, folder: Path) -> dict[str, Any]:
    """Layout, counts and checksums of a finished data set; returns what was found.

    Raises:
        UserError: something is missing, changed or damaged; the message names it.
    """
    counts = count_images(dataset, folder)
    compare_counts(counts, data.counts if isinstance(data, FolderData) else {})
    if isinstance(data, FolderData) and dataset == "objects":
        check_sums(data.checksums)
    return {
        "dataset": dataset,
        "data_hash": data_hash(folder),
        "counts": counts,
        "checked_files": verify(folder) if composed(folder) else 0,
    }
