"""Is a data set whole: layout, counts, checksums; and data sets that lie elsewhere on the disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cl_vs_mim.config import FolderData, load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.data import checks, identity
from cl_vs_mim.data.ade20k import TRAINING, VALIDATION
from cl_vs_mim.data.commands import adopt, check, compose
from test_segmentation import write_scenes

ROOT = Path(__file__).resolve().parent.parent


def write_image(path: Path, size: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(path)


def write_coco(root: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        names = [f"{number:012}.jpg" for number in range(count)]
        for name in names:
            write_image(root / f"{split}2017" / name)
        images = [{"id": n, "file_name": name, "width": 16, "height": 16} for n, name in enumerate(names)]
        box = {"bbox": [2, 2, 6, 6], "area": 36, "iscrowd": 0, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]}
        rows = [{"id": n + 1, "image_id": n, "category_id": 1} | box for n in range(count)]
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Tiny stand-ins for ImageNet, COCO, ADE20K and Stylized-ImageNet."""
    for split, count in (("train", 3), ("val", 2)):
        for name in ("n01", "n02"):
            for number in range(count):
                write_image(tmp_path / "imagenet" / split / name / f"{number}.JPEG")
    for name in ("n01", "n02"):
        write_image(tmp_path / "stylized" / name / "0.JPEG")
    write_coco(tmp_path / "coco")
    write_scenes(tmp_path / "ade" / "ade20k", {TRAINING: 4, VALIDATION: 2})
    return tmp_path


def folders(disk: Path, **options) -> FolderData:
    given = {"objects": disk / "imagenet", "coco": disk / "coco", "ade20k": disk / "ade" / "ade20k"}
    return FolderData.model_validate(given | {"stylized": disk / "stylized"} | options)


COUNTS = {"coco/train2017": 3, "coco/val2017": 2, "ade20k/training": 4, "ade20k/validation": 2}


@pytest.mark.parametrize(
    ("dataset", "counts"),
    [("objects", {"objects/train": 6, "objects/val": 4}), ("scenes", COUNTS), ("cue_conflict", {"stylized": 2})],
)
def test_a_data_set_of_others_is_linked_and_counted(disk: Path, dataset: str, counts: dict[str, int]) -> None:
    place = disk / "results" / dataset
    checks.adopt(folders(disk, counts=counts), dataset, place)
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["counts"] == counts and manifest["images"] == sum(counts.values())
    before = manifest["data_hash"]
    checks.adopt(folders(disk), dataset, place)
    assert json.loads((place / "manifest.json").read_text())["data_hash"] == before
    links = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_symlink()}
    assert links and links == set(map(str, checks.links(folders(disk), dataset)))


def test_other_content_has_another_hash(disk: Path) -> None:
    place = disk / "results" / "objects"
    checks.adopt(folders(disk), "objects", place)
    first = json.loads((place / "manifest.json").read_text())["data_hash"]
    write_image(disk / "imagenet" / "train" / "n01" / "9.JPEG", 17)
    checks.adopt(folders(disk), "objects", place)
    assert json.loads((place / "manifest.json").read_text())["data_hash"] != first
    (disk / "imagenet" / "train" / "n01" / "9.JPEG").unlink()
    checks.adopt(folders(disk), "objects", place)
    assert json.loads((place / "manifest.json").read_text())["data_hash"] == first


def test_what_is_missing_is_said_and_no_manifest_is_left(disk: Path) -> None:
    place = disk / "results" / "scenes"
    with pytest.raises(
        UserError, match=r"coco/train2017 has 3 images instead of 118,287; ade20k/training has 4 .* 20,210"
    ):
        checks.adopt(folders(disk, counts={"coco/train2017": 118287, "ade20k/training": 20210}), "scenes", place)
    assert not (place / "manifest.json").exists()
    (disk / "coco" / "val2017" / "000000000001.jpg").unlink()
    with pytest.raises(UserError, match="lacks 1 of the 2 images"):
        checks.adopt(folders(disk), "scenes", place)
    with pytest.raises(UserError, match=r"nowhere/train, where the study looks for objects \(train\), does not exist"):
        checks.adopt(folders(disk, objects="nowhere"), "objects", disk / "results" / "objects")
    write_image(disk / "imagenet" / "val" / "n03" / "0.JPEG")
    with pytest.raises(UserError, match=r"val has classes that .*train lacks: n03"):
        checks.adopt(folders(disk), "objects", disk / "results" / "objects")


def test_published_checksums_are_compared(disk: Path) -> None:
    file = disk / "coco" / "annotations" / "instances_val2017.json"
    content = file.read_bytes()
    for kind in ("md5", "sha256"):
        checks.check_sums({str(file): hashlib.new(kind, content).hexdigest()})
    with pytest.raises(UserError, match=r"instances_val2017\.json has md5 .* instead of 0{32}; fetch it again"):
        checks.check_sums({str(file): "0" * 32})
    with pytest.raises(UserError, match=r"named in data\.checksums, does not exist"):
        checks.check_sums({str(disk / "nosuch"): "0" * 32})
    with pytest.raises(ValueError, match="an md5 has 32"):
        folders(disk, checksums={"x": "123"})
    with pytest.raises(ValueError, match="no part of a data set"):
        folders(disk, counts={"coco/train2014": 1})


def test_changed_and_missing_files_of_a_composed_set_are_named(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f"{number}.png")
    rows = [{"path": f"{n}.png", "sha256": sha256_file(tmp_path / f"{n}.png")} for n in range(3)]
    pd.DataFrame(rows).to_csv(tmp_path / "files.csv", index=False)
    manifest = {"data_hash": sha256_file(tmp_path / "files.csv"), "parameters_sha256": "0"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert identity.verify(tmp_path) == 3
    write_image(tmp_path / "1.png", 17)
    (tmp_path / "2.png").unlink()
    with pytest.raises(UserError, match=r"1\.png is changed; 2\.png is missing; delete the folder"):
        identity.verify(tmp_path)
    (tmp_path / "files.csv").write_text("path,sha256\n")
    with pytest.raises(UserError, match=r"files\.csv is missing or was changed"):
        identity.verify(tmp_path)


def test_a_study_may_name_folders_on_the_disk(disk: Path) -> None:
    study = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    study["data"] = json.loads(folders(disk, counts=COUNTS).model_dump_json())
    config = disk / "smoke.yaml"
    config.write_text(yaml.safe_dump(study), encoding="utf-8")
    assert isinstance(load_study(config).data, FolderData)
    place, output = disk / "results" / "scenes", disk / "checked.json"
    adopt(config=config, dataset="scenes", output=place)
    check(config=config, dataset="scenes", data=place, output=output)
    assert json.loads(output.read_text())["counts"] == COUNTS
    assert json.loads(output.read_text())["data_hash"] == identity.data_hash(place)
    with pytest.raises(UserError, match="cl-vs-mim adopt"):
        compose(config=config, dataset="scenes", output=place)
    study["data"]["ade"] = "x"
    config.write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(UserError, match=r"data\.ade: unknown key; did you mean 'ade20k'"):
        load_study(config)
