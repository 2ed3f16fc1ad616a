"""Cue-conflict images: two different labels, both from files no encoder has been trained on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cl_vs_mim.config import CueConflictImages
from cl_vs_mim.data.cue_conflict import CueConflictRecipe, quilt
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.labels import NO_CATEGORY
from cl_vs_mim.data.writer import build

KIT = Path(__file__).parents[1] / "data" / "kit"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("data") / "cue_conflict"
    settings = CueConflictImages(image_size=64, images=52, material_fraction=0.25)
    build(CueConflictRecipe(Kit.open(KIT), settings, 5), target, 2, quiet=True)
    return target


@pytest.fixture(scope="module")
def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "images.csv", keep_default_na=False)


def test_the_cues_conflict(rows: pd.DataFrame) -> None:
    assert (rows["shape_category"] != rows["texture_category"]).all()
    assert (rows["shape_identity"] != rows["texture_identity"]).all()
    assert ((rows["texture_category"] == "") != (rows["material"] == "")).all()
    assert NO_CATEGORY not in set(rows["shape_category"]) | set(rows["texture_category"])


def test_the_share_of_materials_is_exact(rows: pd.DataFrame) -> None:
    assert (rows["material"] != "").sum() == 13


def test_shape_categories_are_balanced(folder: Path, rows: pd.DataFrame) -> None:
    assert set(rows["shape_category"].value_counts()) == {4}
    assert (rows["path"].str.split("/").str[0] == rows["shape_category"]).all()
    assert all((folder / path).is_file() for path in rows["path"])


def test_everything_comes_from_the_test_split(rows: pd.DataFrame) -> None:
    manifest = pd.read_csv(KIT / "manifest.csv").set_index("name")
    backgrounds = rows.loc[rows["background"] != "", "background"]
    for names in (rows["shape_identity"], rows["texture_identity"], backgrounds):
        assert set(manifest.loc[names.unique(), "split"]) == {"test"}


def test_the_surface_is_not_the_shapes_own(folder: Path, rows: pd.DataFrame) -> None:
    """A flower's outline in grey steel is grey: the filling has the colour of its source."""
    kit = Kit.open(KIT)
    grey = [row for row in rows.itertuples() if row.texture_identity in ("asphalt", "gravel-grey", "steel-brushed")]
    assert grey
    for row in grey:
        image = cv2.imread(str(folder / row.path)).astype(float)
        pixel = image[row.interior_y - 1 : row.interior_y + 2, row.interior_x - 1 : row.interior_x + 2]
        assert np.ptp(pixel.mean((0, 1))) < 30, (row.path, kit.root)


def test_quilting_only_uses_colours_of_its_source() -> None:
    rng = np.random.default_rng(0)
    patch = np.zeros((40, 40, 3), np.uint8)
    patch[..., 1] = np.add.outer(np.arange(40), np.arange(40))
    patch[..., 2] = rng.integers(100, 160, (40, 40))
    grown = quilt(rng, patch, 150)
    assert grown.shape == (150, 150, 3) and np.isfinite(grown).all()
    for channel in range(3):
        assert grown[..., channel].min() >= patch[..., channel].min() - 0.51
        assert grown[..., channel].max() <= patch[..., channel].max() + 0.51
    # It is grown, not stretched: neighbouring pixels differ as much as in the source.
    roughness = [np.abs(np.diff(a[..., 2].astype(float), axis=1)).mean() for a in (patch, grown)]
    assert roughness[1] == pytest.approx(roughness[0], rel=0.15)
