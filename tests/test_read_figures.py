"""Figures 9 and 11 and the t-SNE: rendered from tiny tables, with the right axes, labels and series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import fig09
from figure_tables import (
    BLOCKS,
    CATEGORIES,
    cue_table,
    decoder_table,
    draw,
    embedding_table,
    fourier_table,
    noise_table,
    purity_table,
    reconstruction_table,
)

ROOT = Path(__file__).resolve().parent.parent
PAIR = ("moco_v3", "simmim", "untrained_vit", "untrained_beit")


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(ROOT / "config" / "smoke.yaml")


def all_of(table: Callable[..., pd.DataFrame], models=PAIR) -> pd.DataFrame:
    return pd.concat([table(model) for model in models], ignore_index=True)


def legend_of(figure: Figure) -> list[str]:
    legends = [*figure.legends, *(legend for part in figure.subfigs for legend in part.legends)]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def footer_of(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


# ------------------------------------------------------------------------------------------------
# Figure 9
# ------------------------------------------------------------------------------------------------


def test_shape_bias_is_of_decided_images_and_accuracy_of_all(study):
    frame = cue_table("simmim")
    bias = fig09.shape_bias(frame, study).set_index("category")
    assert set(bias.index) == {"all", *CATEGORIES}
    two = frame[frame["texture_group"] != ""]
    shape, texture = ((two["decision"] == kind).sum() for kind in ("shape", "texture"))
    assert bias.loc["all", "value"] == pytest.approx(shape / (shape + texture))
    assert bias.loc["all", "accuracy"] == pytest.approx((frame["decision"] == "shape").mean())
    assert bias.loc["all", "low"] <= bias.loc["all", "value"] <= bias.loc["all", "high"]
    assert bias.loc["bird", "images"] == 10
    none = fig09.shape_bias(frame.assign(decision="other"), study).set_index("category")
    assert none["value"].isna().all() and none.loc["all", "accuracy"] == 0


def test_the_drop_is_against_the_same_clean_images(study):
    frame = noise_table("simmim")
    drops = fig09.noise_drops(frame, study)
    clean = frame[frame["width"] == 0]["value"].mean()
    for row in drops.itertuples():
        noisy = frame[(frame["width"] == row.width) & (frame["frequency"] == row.frequency)]["value"].mean()
        assert row.value == pytest.approx(100 * (clean - noisy)) and row.low <= row.value <= row.high
    assert len(drops) == 6
    with pytest.raises(UserError, match="not every image was read clean"):
        fig09.noise_drops(frame[frame["width"] > 0], study)
    with pytest.raises(UserError, match="not every image was read clean"):
        fig09.noise_drops(frame.iloc[:-1], study)


def test_figure_9_has_categories_bands_and_its_caveats(study):
    figure, drawn = draw("fig09", study, cue_conflict=all_of(cue_table), noise=all_of(noise_table))
    left, right = figure.axes
    assert {label.get_text() for label in left.get_yticklabels()} == set(CATEGORIES)
    assert "accuracy lost (points)" in right.get_ylabel()
    accuracy = (cue_table("moco_v3")["decision"] == "shape").mean()
    assert f"MoCo v3 (accuracy {accuracy:.0%})" in legend_of(figure)
    assert "supervised ViT, earlier paper (other amplitude)" in legend_of(figure)
    assert "not calibrated" in footer_of(figure) and "category labels" in footer_of(figure)
    assert "30 cue-conflict images of 3 categories (chance 33%)" in footer_of(figure)
    main = drawn.query("kind == 'drop' and model == 'simmim' and width == 0.2")
    assert any(
        len(line.get_ydata()) == 3 and np.allclose(line.get_ydata(), main.sort_values("frequency")["value"])
        for line in right.lines
    )
    published = drawn[drawn["kind"] == "reference"]
    assert len(published) == 9 and (published["value"] > 0).all()


# ------------------------------------------------------------------------------------------------
# Figure 11
# ------------------------------------------------------------------------------------------------


def test_figure_11_goes_on_through_the_decoder_and_shows_what_is_painted(study):
    fourier = all_of(fourier_table, ["mae", "simmim", "untrained_vit"])
    pictures = all_of(reconstruction_table, ["mae", "simmim"])
    figure, drawn = draw("fig11", study, fourier=fourier, decoder=decoder_table("mae"), pictures=pictures)
    curves, strip = figure.subfigs
    assert "at 0.67" in curves.axes[0].get_ylabel()
    assert {"MAE", "SimMIM", "untrained ViT-64/8", "MAE, published (ViT-B/16)"} <= set(legend_of(figure))
    assert legend_of(figure).count("MAE") == 1
    inside = drawn[drawn["part"] == "decoder"]
    assert inside["depth"].tolist() == [BLOCKS, BLOCKS + 0.5, BLOCKS + 1]
    published = drawn[(drawn["kind"] == "reference") & (drawn["method"] == "MAE")]
    assert published["depth"].max() == BLOCKS + 1
    assert len([axes for axes in strip.axes if axes.get_images()]) == (1 + 2 * 2) * 2
    assert [axes.get_ylabel() for axes in strip.axes if axes.get_ylabel()][1] == "MAE\n75% hidden"
    shown = strip.axes[0].get_images()[0].get_array()
    first = pictures.query("model == 'mae' and kind == 'original' and image == 'val/0.jpg'")
    np.testing.assert_array_equal(shown[..., 0].ravel(), first.sort_values(["row", "col"])["red"])
    assert "Missing" not in footer_of(figure)


def test_figure_11_without_mae_says_so(study):
    fourier = all_of(fourier_table, ["simmim"])
    figure, drawn = draw("fig11", study, fourier=fourier, pictures=reconstruction_table("simmim"))
    assert "Missing: MAE." in footer_of(figure)
    assert drawn["depth"].max() == BLOCKS and set(drawn["part"].dropna()) == {"encoder"}
    with pytest.raises(UserError, match=r"no table is of .*mae.*, which the figure compares"):
        draw("fig11", study, fourier=all_of(fourier_table, ["moco_v3"]), pictures=reconstruction_table("simmim"))


def test_figure_11_refuses_a_torn_picture(study):
    pictures = reconstruction_table("simmim").iloc[1:]
    with pytest.raises(UserError, match=r"lacks pixels of original val/0\.jpg of simmim"):
        draw("fig11", study, fourier=all_of(fourier_table, ["simmim"]), pictures=pictures)


# ------------------------------------------------------------------------------------------------
# t-SNE
# ------------------------------------------------------------------------------------------------


def test_tsne_shows_every_token_and_the_purities(study):
    frame, purity = all_of(embedding_table), all_of(purity_table)
    figure, drawn = draw("appendix_tsne", study, tokens=frame, purity=purity)
    panels = [axes for axes in figure.axes if axes.has_data()]
    assert len(panels) == 4 * 2
    points = np.concatenate([line.get_xydata() for line in panels[2].lines])
    wanted = frame.query("model == 'simmim' and depth == 1 and perplexity == 5")
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(wanted["x"]))
    shares = purity.query("model == 'simmim' and depth == 1 and perplexity == 5").groupby("metric")["value"].mean()
    assert panels[2].get_title() == f"block 1: {shares['image_purity']:.2f} / {shares['class_purity']:.2f}"
    assert legend_of(figure) == list(CATEGORIES)
    assert "perplexity 5" in footer_of(figure) and "10 nearest neighbours" in footer_of(figure)
    assert set(drawn["kind"]) == {"token", "purity"} and set(drawn["perplexity"].dropna()) == {5}


def test_tsne_of_different_images_is_refused(study):
    frame = all_of(embedding_table)
    frame["image"] = frame["image"].where(frame["model"] != "simmim", "val/77.jpg")
    with pytest.raises(UserError, match="different images"):
        draw("appendix_tsne", study, tokens=frame, purity=all_of(purity_table))
