"""Single-object images: held-out means held out, the table agrees with the pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cl_vs_mim.config import ObjectImages
from cl_vs_mim.data import objects
from cl_vs_mim.data.compose import Light, Pose, warp
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.objects import ObjectRecipe, compose_single, paste_single
from cl_vs_mim.data.scenery import ROTATION
from cl_vs_mim.data.views import draw_view
from cl_vs_mim.data.writer import build

KIT = Path(__file__).parents[1] / "data" / "kit"


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit.open(KIT)


@pytest.fixture(scope="module")
def folder(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = ObjectImages(image_size=48, train_per_identity=2, val_per_identity=1, heldout_per_object=2)
    target = tmp_path_factory.mktemp("data") / "objects"
    build(ObjectRecipe(kit, settings, 7), target, 2, quiet=True)
    return target


@pytest.fixture(scope="module")
def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "images.csv")


def test_it_is_an_image_folder(folder: Path, rows: pd.DataFrame, kit: Kit) -> None:
    train = {file.name for file in kit.select("object", "train")}
    assert {path.name for path in (folder / "train").iterdir()} == train
    assert {path.name for path in (folder / "val").iterdir()} == train
    categories = {file.category for file in kit.select("object", "test")}
    assert {path.name for path in (folder / "heldout").iterdir()} == categories
    assert sorted(rows["path"]) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    assert (rows["path"].str.split("/").str[1] == rows["class"]).all()
    assert cv2.imread(str(folder / rows["path"][0])).shape == (48, 48, 3)


def test_no_file_of_one_split_is_seen_in_the_other(rows: pd.DataFrame) -> None:
    manifest = pd.read_csv(KIT / "manifest.csv")
    of_object = manifest[manifest["kind"] == "object"].set_index("name")
    of_ground = manifest[manifest["kind"] != "object"].set_index("name")
    assert of_ground.index.is_unique
    groups: dict[str, set[str]] = {}
    for split, part in rows.groupby("split"):
        grounds = sorted({name for cell in part["background"] for name in cell.split("+")})
        assert set(of_ground.loc[grounds, "split"]) == {"train" if split == "train" else "test"}
        assert set(of_object.loc[part["identity"].unique(), "split"]) == {"test" if split == "heldout" else "train"}
        assert (of_object.loc[part["identity"], "category"].to_numpy() == part["category"]).all()
        groups[split] = set(of_ground.loc[grounds, "near_duplicate_group"])
        groups[split + " objects"] = set(of_object.loc[part["identity"].unique(), "near_duplicate_group"])
    assert not groups["train"] & (groups["val"] | groups["heldout"])
    assert not groups["train objects"] & groups["heldout objects"]


@pytest.mark.parametrize("column", ["rotation", "size", "brightness", "warmth", "light_angle"])
def test_no_held_out_value_lies_in_an_interval_of_training(rows: pd.DataFrame, column: str) -> None:
    comb = {
        "rotation": ROTATION,
        "size": objects.SIZE,
        "brightness": objects.BRIGHTNESS,
        "warmth": objects.WARMTH,
        "light_angle": objects.LIGHT_ANGLE,
    }[column]
    values = rows[column].abs() if column == "rotation" else rows[column]
    train = rows["split"] == "train"
    cells = np.searchsorted(comb.edges, values, side="right") - 1
    assert set(cells[train] % 2) == {0} and set(cells[~train] % 2) == {1}
    # Interleaved, not merely apart: both sets use several cells over the same range.
    assert len(set(cells[train])) >= 3 and len(set(cells[~train])) >= 3
    assert values[train].min() < values[~train].median() < values[train].max()


def test_sizes_and_lights_keep_to_the_settings(rows: pd.DataFrame) -> None:
    settings = ObjectImages(image_size=48, train_per_identity=1, val_per_identity=1, heldout_per_object=1)
    assert rows["brightness"].between(*settings.brightness).all()
    assert rows["warmth"].between(*settings.warmth).all()
    assert (rows["size"] <= settings.size[1]).all() and rows["size"].between(*settings.size).mean() > 0.7
    assert (rows["scale"] <= 1.15 + 1e-9).all()


def test_box_and_interior_are_inside_the_image_and_filled(rows: pd.DataFrame) -> None:
    assert (rows[["width", "height"]] > 2).all().all()
    assert ((rows["x"] + rows["width"]) <= 48).all() and ((rows["y"] + rows["height"]) <= 48).all()
    inside_x = (rows["interior_x"] >= rows["x"]) & (rows["interior_x"] < rows["x"] + rows["width"])
    inside_y = (rows["interior_y"] >= rows["y"]) & (rows["interior_y"] < rows["y"] + rows["height"])
    assert (inside_x & inside_y).all()


def test_the_interior_pixel_shows_the_object(kit: Kit) -> None:
    settings = ObjectImages(image_size=96, train_per_identity=1, val_per_identity=1, heldout_per_object=1)
    recipe = ObjectRecipe(kit, settings, 0)
    for index, file in enumerate(kit.select("object", "train")[::9]):
        rng = np.random.default_rng(index)
        single = compose_single(rng, recipe.pieces, recipe._grain, file, "train", settings, held_out=False)
        row = single.row
        assert single.alpha[row["interior_y"], row["interior_x"]] > 0.9
        ys, xs = np.nonzero(single.alpha > 0.5)
        assert (row["x"], row["y"]) == (xs.min(), ys.min())
        assert (row["width"], row["height"]) == (np.ptp(xs) + 1, np.ptp(ys) + 1)


def test_pixels_change_inside_the_mask_and_in_space_nowhere_else(kit: Kit) -> None:
    recipe = ObjectRecipe(
        kit, ObjectImages(image_size=96, train_per_identity=1, val_per_identity=1, heldout_per_object=1), 0
    )
    file = next(file for file in kit.select("object") if file.name == "jupiter")
    cutout, placement = recipe.pieces.cutout(file), recipe.pieces.scenery.placements["jupiter"]
    view = draw_view(np.random.default_rng(0), recipe.pieces, "train", "space", 96, 3000.0, cutout.mean)
    before = view.image.copy()
    pose = Pose(0.2, 20.0, False, 48.0, 48.0)
    image, alpha = paste_single(view, cutout, placement, pose, Light(1.0, 0.0, 90.0, 0.0), 0.5, 0.5)
    change = np.abs(image - before).mean(2)
    assert alpha.sum() == pytest.approx(np.pi * 25**2, rel=0.08)  # a disc of 250 * 0.2 px across
    assert (change[alpha > 0.5] > 8).mean() > 0.98
    assert change[alpha == 0].max() < 0.01  # rounding


def test_warp_puts_the_object_where_the_geometry_says(kit: Kit) -> None:
    recipe = ObjectRecipe(
        kit, ObjectImages(image_size=96, train_per_identity=1, val_per_identity=1, heldout_per_object=1), 0
    )
    for name, rotation, mirror in (("elephant", 0.0, False), ("scissors-black", 130.0, True), ("giraffe", -4.0, True)):
        cutout = recipe.pieces.cutout(next(file for file in kit.select("object") if file.name == name))
        pose = Pose(0.3, rotation, mirror, 60.0, 55.0)
        _, alpha = warp(cutout, pose, 128)
        ys, xs = np.nonzero(alpha > 0.5)
        left, top, right, bottom = objects.extent(cutout, 0.3, rotation, mirror)
        expected = (60 + left, 55 + top, 60 + right, 55 + bottom)
        assert np.allclose((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), expected, atol=2.0)


def test_rotation_is_counter_clockwise_and_mirroring_flips(kit: Kit) -> None:
    recipe = ObjectRecipe(
        kit, ObjectImages(image_size=96, train_per_identity=1, val_per_identity=1, heldout_per_object=1), 0
    )
    cutout = recipe.pieces.cutout(next(file for file in kit.select("object") if file.name == "mallet-metal"))
    straight = warp(cutout, Pose(0.4, 0.0, False, 64.0, 64.0), 128)[1]
    turned = warp(cutout, Pose(0.4, 90.0, False, 64.0, 64.0), 128)[1]
    mirrored = warp(cutout, Pose(0.4, 0.0, True, 64.0, 64.0), 128)[1]
    assert np.abs(np.rot90(straight) - turned).mean() < 0.01
    assert np.abs(straight[:, ::-1] - mirrored).mean() < 0.01
    assert np.abs(straight - mirrored).mean() > 0.02
