"""The kit's manifest, its tables, and what happens to files that are not what they should be."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data.contact_sheet import SHIPPABLE
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.scenery import Comb, Scenery, draw_rotation

ROOT = Path(__file__).parents[1]
KIT = ROOT / "data" / "kit"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A kit of the manifest, the tables and three objects."""
    kit = tmp_path / "kit"
    kit.mkdir()
    for name in ("placement.csv", "scenery.csv"):
        shutil.copy(KIT / name, kit)
    table = pd.read_csv(KIT / "manifest.csv", dtype=str, keep_default_na=False)
    table = table[table["kind"] == "object"].head(3)
    for path in table["path"]:
        (kit / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(KIT / path, kit / path)
    table.to_csv(kit / "manifest.csv", index=False)
    return kit


def test_the_embedded_kit_is_whole() -> None:
    kit = Kit.open(KIT)
    kit.verify()
    assert len(kit.select("object")) == 250
    Scenery(kit)


def test_near_duplicate_groups_never_straddle_the_split() -> None:
    table = pd.read_csv(KIT / "manifest.csv")
    for group, part in table.groupby("near_duplicate_group"):
        assert len(set(part["split"])) == 1, group
    assert set(table["split"]) == {"train", "test"}


def test_every_object_has_backgrounds_in_each_split_it_is_used_with() -> None:
    kit = Kit.open(KIT)
    scenery = Scenery(kit)
    for file in kit.select("object"):
        for split in {"train", "test"} if file.split == "train" else {"test"}:
            assert scenery.settings_of(file.name, split)


def test_a_straddling_group_is_refused(copy: Path) -> None:
    table = pd.read_csv(copy / "manifest.csv")
    table["near_duplicate_group"] = "twins"
    table["split"] = ["train", "test", "train"]
    table.to_csv(copy / "manifest.csv", index=False)
    with pytest.raises(UserError, match="'twins'"):
        Kit.open(copy)


@pytest.mark.parametrize(("column", "value"), [("kind", "thing"), ("split", "val"), ("sha256", "0"), ("path", "../x")])
def test_a_bad_value_in_the_manifest_is_named_with_its_line(copy: Path, column: str, value: str) -> None:
    table = pd.read_csv(copy / "manifest.csv", dtype=str)
    table.loc[1, column] = value
    table.to_csv(copy / "manifest.csv", index=False)
    with pytest.raises(UserError, match="line 3"):
        Kit.open(copy)


def test_a_missing_manifest_or_column_is_named(copy: Path) -> None:
    pd.read_csv(copy / "manifest.csv").drop(columns="licence").to_csv(copy / "manifest.csv", index=False)
    with pytest.raises(UserError, match="'licence'"):
        Kit.open(copy)
    (copy / "manifest.csv").unlink()
    with pytest.raises(UserError, match=r"manifest\.csv does not exist"):
        Kit.open(copy)


def test_a_wrong_hash_is_named(copy: Path) -> None:
    kit = Kit.open(copy)
    first = kit.files[0]
    shutil.copy(copy / kit.files[1].path, copy / first.path)
    with pytest.raises(UserError, match=f"{first.path} has the wrong sha256"):
        kit.read(first)
    with pytest.raises(UserError, match=f"{first.path} has the wrong sha256"):
        kit.verify()


def test_a_missing_file_is_named(copy: Path) -> None:
    kit = Kit.open(copy)
    (copy / kit.files[2].path).unlink()
    with pytest.raises(UserError, match=f"{kit.files[2].path} cannot be read"):
        kit.read(kit.files[2])


def test_a_corrupt_picture_with_a_matching_hash_is_named(copy: Path) -> None:
    from cl_vs_mim.core.files import sha256_file

    table = pd.read_csv(copy / "manifest.csv", dtype=str, keep_default_na=False)
    path = copy / table.loc[0, "path"]
    path.write_bytes(path.read_bytes()[:40])
    table.loc[0, "sha256"] = sha256_file(path)
    table.to_csv(copy / "manifest.csv", index=False)
    kit = Kit.open(copy)
    with pytest.raises(UserError, match=f"{table.loc[0, 'path']} cannot be read"):
        kit.read(kit.files[0])


def test_an_unknown_setting_is_named(copy: Path) -> None:
    table = pd.read_csv(copy / "placement.csv", dtype=str)
    table.loc[4, "settings"] = "moon"
    table.to_csv(copy / "placement.csv", index=False)
    with pytest.raises(UserError, match="unknown setting 'moon'"):
        Scenery(Kit.open(copy))


def test_both_halves_of_a_comb_stay_apart_by_the_guard_band() -> None:
    comb = Comb.regular(0.0, 1.0, 0.1)
    rng = np.random.default_rng(0)
    train = np.array([comb.draw(rng, False, 0.15, 0.93) for _ in range(500)])
    held = np.array([comb.draw(rng, True, 0.15, 0.93) for _ in range(500)])
    assert not comb.is_held_out(train).any() and comb.is_held_out(held).all()
    assert np.abs(train[:, None] - held[None]).min() >= 0.015
    assert min(train.min(), held.min()) >= 0.15 and max(train.max(), held.max()) <= 0.93
    # Every cell of either set is reached.
    assert len(np.unique((train * 10).astype(int))) == 4 and len(np.unique((held * 10).astype(int))) == 5
    with pytest.raises(ValueError, match="no interval"):
        comb.draw(rng, True, 0.02, 0.05)


def test_rotation_keeps_to_its_limit() -> None:
    rng = np.random.default_rng(0)
    values = np.array([draw_rotation(rng, i % 2 == 0, 5.0) for i in range(400)])
    assert np.abs(values).max() <= 5.0 and values.min() < 0 < values.max()


def test_the_shipped_contact_sheet_uses_only_files_that_may_be_handed_on() -> None:
    sheet = ROOT / "docs" / "images" / "contact_sheet.jpg"
    assert sheet.stat().st_size < 600_000
    licences = {file.path: file.licence for file in Kit.open(KIT).files}
    listed = defaultdict(str)
    for line in sheet.with_name("contact_sheet_sources.md").read_text().splitlines():
        if line.startswith("| `"):
            path, _, licence, _ = (cell.strip() for cell in line.strip("|").split("|"))
            listed[path.strip("`")] = licence
    assert len(listed) > 50
    for path, licence in listed.items():
        assert licences[path] == licence
        assert licence in SHIPPABLE
