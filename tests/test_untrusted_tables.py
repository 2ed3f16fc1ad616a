"""Tables, manifests and kits of others: no pipe is waited for, no name leads out of a folder, faults are one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cl_vs_mim.analysis.queries import choose_queries
from cl_vs_mim.audit.report import figure_data, read_report
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.tables import read_table, read_text_table, write_table
from cl_vs_mim.core.untrusted import Limits, require_inside, set_limits
from cl_vs_mim.data.identity import read_manifest as read_data_manifest
from cl_vs_mim.data.identity import verify
from cl_vs_mim.data.images import ImageFolderIndex
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.labels import image_labels
from cl_vs_mim.data.scenery import Scenery
from cl_vs_mim.transfer.linear_probe.probes import load_probe
from cl_vs_mim.transfer.robustness.evaluate import cue_table


@pytest.fixture(autouse=True)
def default_limits():
    yield
    set_limits(Limits())


def refused(work, path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        work()
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


INDEX = ImageFolderIndex(Path("val"), ("a/x.png",), np.zeros(1, dtype=np.int64), ("a",))
READERS = {  # what is read -> the file's name in a folder, and who reads it there
    "parquet": ("t.parquet", lambda folder: read_table(folder / "t.parquet")),
    "csv": ("t.csv", lambda folder: read_table(folder / "t.csv")),
    "text table": ("t.csv", lambda folder: read_text_table(folder / "t.csv", ("path",), "rebuild it")),
    "labels": ("images.csv", lambda folder: image_labels(folder, "val", INDEX, "category")),
    "cues": ("images.csv", lambda folder: cue_table(folder, INDEX)),
    "data manifest": ("manifest.json", read_data_manifest),
    "kit manifest": ("manifest.csv", Kit.open),
    "report": ("claims.json", lambda folder: read_report(folder / "claims.json")),
    "probes": ("p.safetensors", lambda folder: load_probe(folder / "p.safetensors", "class", 0, "cls")),
    "picture": ("f.png", lambda folder: figure_data(folder / "f.png")),
}


@pytest.mark.parametrize("reader", READERS)
def test_pipes_devices_and_folders_are_refused(tmp_path: Path, reader: str) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    os.mkfifo(path)
    refused(lambda: read(tmp_path), path, "is a named pipe, not a file")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(lambda: read(tmp_path), path, "is a device, not a file")
    path.unlink()
    path.mkdir()
    refused(lambda: read(tmp_path), path, "is a folder, not a file")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\0path", b"PAR1garbagePAR1", b"path,b\n\xff\xfe,1\n", b"[" * 99_999]
)
@pytest.mark.parametrize("reader", READERS)
def test_garbage_is_one_line(tmp_path: Path, reader: str, content: bytes) -> None:
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(content)
    if reader == "csv" and content[:1] in (b"[", b"P"):
        return  # a table of one strange column
    with pytest.raises(UserError, match=name) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_that_declares_very_many_rows_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    write_table(path, pd.DataFrame({"a": np.zeros(3_000_000), "b": np.zeros(3_000_000)}))
    assert path.stat().st_size < 100_000
    set_limits(Limits(table_megacells=5))
    refused(lambda: read_table(path), path, "declares 3,000,000 rows of 2 columns, more than is read")
    set_limits(Limits(table_megabytes=0))
    refused(lambda: read_table(path), path, "raise limits.table_megabytes")
    set_limits(Limits())
    assert len(read_table(path)) == 3_000_000


def test_side_tables_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    with_queries = dict(data=tmp_path, image="val/a/x.png", size=24, grid=6, crop_fraction=1.0)
    Image.new("RGB", (24, 24)).save(tmp_path / "x.png")
    columns = "path,x,y,width,height,interior_x,interior_y\n"
    for text, words in (
        (columns + "val/a/x.png,1,2,three,4,5,6\n", "could not convert string to float"),
        (columns, "has 0 rows for"),
        ("path\n", "has no column 'x'"),
    ):
        path.write_text(text)
        refused(lambda: choose_queries("object_background", **with_queries), path, words)
    path.write_text("path\nval/a/x.png\n")
    refused(lambda: cue_table(tmp_path, INDEX), path, "has no column 'shape_category'")
    path.write_text("path,shape_category,texture_category,material\na/x.png,a,b,c\na/x.png,a,b,d\n")
    refused(lambda: cue_table(tmp_path, INDEX), path, "two rows for image a/x.png")


def test_the_list_of_files_of_a_data_set_passes_too(tmp_path: Path) -> None:
    (tmp_path / "files.csv").write_bytes(b"path\n\xff\n")
    manifest = {"data_hash": sha256_file(tmp_path / "files.csv"), "parameters_sha256": "0"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    refused(lambda: verify(tmp_path), tmp_path / "files.csv", "it is not UTF-8 text")


# ------------------------------------------------------------------------------------------------
# The kit
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def kit(root: Path, tmp_path: Path) -> Path:
    """A copy of the kit's tables, and of its first picture."""
    source, copy = root / "data" / "kit", tmp_path / "kit"
    copy.mkdir()
    for name in ("manifest.csv", "placement.csv", "scenery.csv"):
        shutil.copy(source / name, copy / name)
    first = pd.read_csv(copy / "manifest.csv")["path"][0]
    (copy / first).parent.mkdir(parents=True)
    shutil.copy(source / first, copy / first)
    return copy


def change(kit: Path, table: str, row: int, **values: str) -> None:
    rows = pd.read_csv(kit / table, dtype=str, keep_default_na=False)
    for column, value in values.items():
        rows.loc[row, column] = value
    rows.to_csv(kit / table, index=False)


@pytest.mark.parametrize("column", ["category", "name"])
@pytest.mark.parametrize("value", ["../../../../X", "/etc", "a/b", "..", ".", "a\\b", "a\0b", "a\nb"])
def test_names_that_would_lead_out_of_the_data_set_are_refused(kit: Path, column: str, value: str) -> None:
    change(kit, "manifest.csv", 200, **{column: value})
    with pytest.raises(UserError, match=r"manifest\.csv"):
        Kit.open(kit)


def test_and_no_recipe_can_write_there(tmp_path: Path) -> None:
    require_inside(tmp_path, "train/bird/0001.jpg")
    for name in ("../x.jpg", "/tmp/x.jpg", "train/../../x.jpg", ""):
        with pytest.raises(UserError, match="outside the folder"):
            require_inside(tmp_path, name)


@pytest.mark.parametrize("size", ["²", "0", "-3", "9" * 5000, "1e3", ""])
def test_sizes_that_are_no_numbers_are_named(kit: Path, size: str) -> None:
    change(kit, "manifest.csv", 0, width=size)
    with pytest.raises(UserError, match=r"manifest\.csv, line 2 .*two positive whole numbers"):
        Kit.open(kit)


@pytest.mark.parametrize("table", ["placement.csv", "scenery.csv"])
def test_side_tables_of_the_kit_are_text(kit: Path, table: str) -> None:
    (kit / table).write_bytes((kit / table).read_bytes() + b"\xff\xfe\n")
    refused(lambda: Scenery(Kit.open(kit)), kit / table, "it is not UTF-8 text")
    (kit / table).unlink()
    os.mkfifo(kit / table)
    refused(lambda: Scenery(Kit.open(kit)), kit / table, "is a named pipe, not a file")


@pytest.mark.parametrize("value", ["nan", "inf", "x", ""])
def test_numbers_of_side_tables_are_finite(kit: Path, value: str) -> None:
    change(kit, "scenery.csv", 0, sky_bottom=value)
    refused(lambda: Scenery(Kit.open(kit)), kit / "scenery.csv", "row")


def test_pictures_of_the_kit_pass_the_gate(kit: Path, tmp_path: Path) -> None:
    files = Kit.open(kit)
    path = kit / files.files[0].path
    assert files.read(files.files[0]).shape[2] == 3
    path.unlink()
    os.mkfifo(path)
    refused(lambda: Kit.open(kit).read(files.files[0]), path, "is a named pipe, not a file")
    path.unlink()
    Image.new("RGB", (8, 8)).save(path, "GIF")
    change(kit, "manifest.csv", 0, sha256=sha256_file(path))
    fresh = Kit.open(kit)
    refused(lambda: fresh.read(fresh.files[0]), path, "it is none of JPEG, PNG")
    size = (files.files[0].height, files.files[0].width)
    Image.fromarray(np.zeros(size, dtype=np.uint16)).save(path, "PNG")
    change(kit, "manifest.csv", 0, sha256=sha256_file(path))
    fresh = Kit.open(kit)
    refused(lambda: fresh.read(fresh.files[0]), path, "is not a readable picture of 8 bits")
