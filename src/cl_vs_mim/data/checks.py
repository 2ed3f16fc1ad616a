"""Is a data set whole? Asked once, before anything is trained on it.

    python -m cl_vs_mim.data.checks --config config/demo.yaml --dataset scenes --data results/demo/data/scenes \\
        --output results/demo/checks/scenes.json

Layout (ImageFolder, COCO, ADE20K), the number of images of each part, and checksums: of every file of a composed data
set, and of the files that the study names for a data set of others. With ``--adopt`` a data set that lies elsewhere on
the disk (``data`` of the study names its folders) is linked into the study's results first, so that every later stage
finds it where a composed one would be; its files are only read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cl_vs_mim.config import FolderData, load_study
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.core.files import sha256_file, sha256_json, write_json
from cl_vs_mim.core.progress import progress
from cl_vs_mim.data.ade20k import TRAINING, VALIDATION, read_split
from cl_vs_mim.data.coco import read_coco
from cl_vs_mim.data.images import index_image_folder

DATASETS = ("objects", "scenes", "cue_conflict")
_FILES = "files.csv"  # of a composed data set: path and sha256 of every file
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
        train, val = (set(index.classes) for index in splits.values())
        if odd := sorted(val - train):
            raise UserError(f"{folder / 'val'} has classes that {folder / 'train'} has not: {', '.join(odd[:5])}")
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
        UserError: one has not; all such parts are listed.
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


def check_files(folder: Path) -> int:
    """Every file of a composed data set has its recorded sha256. Returns their number; 0 where there is no record.

    Raises:
        UserError: one is missing or changed; the first few are named.
    """
    record = folder / _FILES
    if not record.exists():
        return 0
    wrong = []
    rows = pd.read_csv(record)
    for row in progress(rows.itertuples(), total=len(rows), desc=f"checksums {folder.name}", unit="file"):
        path = folder / row.path
        if not path.is_file():
            wrong.append(f"{row.path} is missing")
        elif sha256_file(path) != row.sha256:
            wrong.append(f"{row.path} is changed")
    if wrong:
        more = f" … ({len(wrong)} in all)" if len(wrong) > 3 else ""
        raise UserError(f"{folder}: {'; '.join(wrong[:3])}{more}; delete the folder and build the data set again")
    return len(rows)


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


def content_hash(folder: Path) -> str:
    """Sha256 over names and sizes of all files below ``folder``: what stands for a data set too large to be read."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = progress(files, total=len(files), desc=f"list {folder.name}", unit="file")
    return sha256_json([[path.relative_to(folder).as_posix(), path.stat().st_size] for path in rows])


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


def adopt(data: FolderData, dataset: str, folder: Path) -> None:
    """Link the folders of a data set below ``folder`` and write a manifest, last, when all has been checked.

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
    write_json(folder / "manifest.json", manifest)


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> None:
    data = load_study(arguments.config).data
    folders = isinstance(data, FolderData)
    if arguments.adopt:
        if not folders:
            raise UserError(f"{arguments.config} composes its data sets; there is nothing to adopt")
        adopt(data, arguments.dataset, arguments.data)
        return
    counts = count_images(arguments.dataset, arguments.data)
    compare_counts(counts, data.counts if folders else {})
    files = check_files(arguments.data)
    if folders and arguments.dataset == "objects":
        check_sums(data.checksums)
    manifest = json.loads((arguments.data / "manifest.json").read_text(encoding="utf-8"))
    report = {
        "dataset": arguments.dataset,
        "data_hash": manifest["data_hash"],
        "counts": counts,
        "checked_files": files,
    }
    write_json(arguments.output, report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check a data set, or link one that lies elsewhere.")
    parser.add_argument("--config", type=Path, required=True, help="the study's YAML")
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--data", type=Path, required=True, help="its folder in the study's results")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--output", type=Path, help="….json that says what was checked")
    group.add_argument("--adopt", action="store_true", help="link the study's folders here, and write the manifest")
    return parser


if __name__ == "__main__":
    run_cli(main, _parser())
