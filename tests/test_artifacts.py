"""Files are whole or absent, and write errors say what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import atomic_path, sha256_json, write_json, write_text
from cl_vs_mim.core.tables import HEAD, read_table, row_head, with_head, write_table


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def failing_write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed in the middle")

    with pytest.raises(RuntimeError):
        failing_write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_keeps_the_suffix_and_the_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a" / "figure.pdf") as temporary:
        assert temporary.suffix == ".pdf"
        assert temporary.parent == tmp_path / "a"
        temporary.write_bytes(b"x")
    assert (tmp_path / "a" / "figure.pdf").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
def test_write_errors_name_the_file_and_the_remedy(tmp_path: Path, monkeypatch, number: int, remedy: str) -> None:
    def fail(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(number, "simulated")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(UserError, match=remedy) as error:
        write_json(tmp_path / "manifest.json", {"a": 1})
    assert "manifest.json" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_device_is_reported() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    from cl_vs_mim.core.files import clear_os_errors

    def write() -> None:
        with clear_os_errors(Path("results/x.csv")), Path("/dev/full").open("w") as stream:
            stream.write("x")

    with pytest.raises(UserError, match="disk is full"):
        write()


def test_a_file_in_the_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="a part of the path is a file"):
        write_text(tmp_path / "results" / "demo" / "x.csv", "x")


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"model": ["a", "b"], "depth": [1, 2], "value": [0.25, np.pi]})
    write_table(tmp_path / f"t{suffix}", frame)
    pd.testing.assert_frame_equal(read_table(tmp_path / f"t{suffix}"), frame)


def test_missing_and_damaged_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; build it with: snakemake"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"bad\.parquet cannot be read"):
        read_table(tmp_path / "bad.parquet")


def test_every_row_carries_the_whole_head() -> None:
    head = row_head(study="smoke", config_hash="c", data_hash="d", device=torch.device("cpu"))
    assert tuple(head) == HEAD
    assert all(head.values())
    frame = with_head(pd.DataFrame({"value": [1.0, 2.0]}, index=[5, 9]), head)
    assert list(frame.columns) == [*HEAD, "value"]
    assert (frame["study"] == "smoke").all()
    assert "torch" in frame["packages"].iloc[0]


def test_canonical_hash_ignores_the_order_of_keys() -> None:
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
