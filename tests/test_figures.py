"""Figures show what the tables hold, and say what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.figures import fig02, fig03, style
from cl_vs_mim.figures.commands import figures
from cl_vs_mim.figures.looks import published_colour, series_styles, shaded
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.tables import depth_curves, read_tables, relative_depth
from cl_vs_mim.metrics.yardstick import uniform_attention_distance
from figure_tables import ENCODERS, REFERENCE, attention_table, draw, image_table, maps_table, write_all


@pytest.fixture(scope="module")
def study(root: Path) -> Study:
    return load_study(root / "config" / "smoke.yaml")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_all(tmp_path, {model: attention_table(model) for model in ENCODERS})


def line_of(figure: Figure, label: str, panel: int = 0):
    return next(line for line in figure.axes[panel].get_lines() if line.get_label() == label)


def footer_of(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


# ------------------------------------------------------------------------------------------------
# Curves
# ------------------------------------------------------------------------------------------------


def test_curves_are_means_over_heads_seeds_and_images(study: Study) -> None:
    frame = pd.concat([attention_table("moco_v3", seed=0), attention_table("moco_v3", seed=1)])
    curves = depth_curves(frame, "nmi", study.figures.bootstrap)
    mean = curves[curves["kind"] == "mean"]
    expected = frame[frame["metric"] == "nmi"].groupby("depth")["value"].mean()
    assert mean["value"].to_numpy() == pytest.approx(expected.to_numpy())
    assert (mean["low"] < mean["value"]).all()
    assert (mean["value"] < mean["high"]).all()
    assert mean["seeds"].tolist() == [2] * 3
    assert mean["images"].tolist() == [12] * 3
    assert mean["relative_depth"].tolist() == [0, 0.5, 1]
    heads = curves[curves["kind"] == "head"].set_index(["depth", "head"])["value"]
    one = frame[(frame["metric"] == "nmi") & (frame["depth"] == 2) & (frame["head"] == 1)]["value"].mean()
    assert heads[2, 1] == pytest.approx(one)


def test_an_incomplete_table_is_refused(study: Study) -> None:
    frame = attention_table("moco_v3")
    with pytest.raises(UserError, match=r"71 values of nmi instead of 72 .*rebuild"):
        depth_curves(frame.drop(frame.index[frame["metric"] == "nmi"][5]), "nmi", study.figures.bootstrap)
    with pytest.raises(UserError, match="moco_v3 have no values of nmi"):
        depth_curves(frame[frame["metric"] != "nmi"], "nmi", study.figures.bootstrap)


def test_relative_depth_lays_first_on_first_and_last_on_last() -> None:
    assert [relative_depth(block, 12) for block in (1, 12)] == [0, 1]
    assert relative_depth(1, 1) == 1


# ------------------------------------------------------------------------------------------------
# Reading
# ------------------------------------------------------------------------------------------------


def test_controls_come_last_whatever_the_order_given(paths: list[Path]) -> None:
    frame = read_tables(paths, fig03.COLUMNS)
    assert list(dict.fromkeys(frame["model"])) == ["moco_v3", "simmim", "untrained_vit", "untrained_beit"]


@pytest.mark.parametrize("column", ["study", "data_hash"])
def test_tables_of_different_origin_are_not_mixed(tmp_path: Path, column: str) -> None:
    frames = {model: attention_table(model) for model in ("moco_v3", "simmim")}
    frames["simmim"][column] = "other"
    with pytest.raises(UserError, match=f"tables of different {column}.*simmim.parquet: other"):
        read_tables(write_all(tmp_path, frames), fig03.COLUMNS)


def test_missing_columns_and_rows_are_named(tmp_path: Path) -> None:
    (path,) = write_all(tmp_path, {"moco_v3": attention_table("moco_v3").drop(columns="grid")})
    with pytest.raises(UserError, match=r"moco_v3\.parquet has no column grid"):
        read_tables([path], fig03.COLUMNS)
    (path,) = write_all(tmp_path, {"empty": attention_table("moco_v3").iloc[:0]})
    with pytest.raises(UserError, match=r"empty\.parquet has no rows"):
        read_tables([path], fig03.COLUMNS)


def test_published_curves_are_read_where_there_are_any() -> None:
    reference = read_table(REFERENCE)
    curve = published_curves(reference, "notebook_fig3")
    assert curve["method"].unique().tolist() == ["MoCo v3"]
    assert curve["depth"].tolist() == list(range(1, 13))
    assert curve["value"].iloc[0] == 110.5
    assert curve["relative_depth"].iloc[-1] == 1
    assert published_curves(reference, "fig3").empty  # the paper's own values were not recovered


# ------------------------------------------------------------------------------------------------
# Figures 3 and 4
# ------------------------------------------------------------------------------------------------


def test_figure_3_draws_its_csv(paths: list[Path], study: Study) -> None:
    figure, drawn = draw("fig03", study, attention=paths)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "depth (block)"
    assert axes.get_ylabel() == "attention distance (px)"
    means = drawn[drawn["kind"] == "mean"]
    for label, _, _, _ in ENCODERS.values():
        line, rows = line_of(figure, label), means[means["label"] == label]
        assert line.get_xdata().tolist() == rows["depth"].tolist() == [1, 2, 3]
        assert np.allclose(line.get_ydata(), rows["value"])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:2] == ["MoCo v3", "SimMIM"]
    assert {"untrained ViT-64/8", "untrained BEiT-like-64/8", "uniform attention"} <= set(legend)
    uniform = drawn[drawn["kind"] == "uniform"]["value"].iloc[0]
    assert uniform == pytest.approx(uniform_attention_distance(6, 8))
    faint = drawn[drawn["kind"] == "reference"]
    assert faint["value"].iloc[0] / uniform == pytest.approx(110.5 / 116.49, rel=1e-3)  # the same share of uniform
    assert (faint["depth"].iloc[0], faint["depth"].iloc[-1]) == (1, 3)


def test_colours_and_markers_are_the_papers(paths: list[Path], study: Study) -> None:
    figure, _ = draw("fig03", study, attention=paths)
    cl, mim = line_of(figure, "MoCo v3"), line_of(figure, "SimMIM")
    assert (cl.get_marker(), mim.get_marker()) == ("s", "^")
    red, blue = (line.get_color() for line in (cl, mim))
    assert int(red[1:3], 16) > int(red[5:], 16)
    assert int(blue[5:], 16) > int(blue[1:3], 16)
    greys = [line_of(figure, ENCODERS[name][0]).get_color() for name in ("untrained_vit", "untrained_beit")]
    assert all(grey[1:3] == grey[3:5] == grey[5:] for grey in greys)
    assert greys[0] != greys[1]


def test_different_grids_do_not_share_an_axis(tmp_path: Path, study: Study) -> None:
    frames = {model: attention_table(model) for model in ("moco_v3", "simmim")}
    frames["simmim"]["patch_size"] = 16
    with pytest.raises(UserError, match="6x6 patches of 8 px, 6x6 patches of 16 px"):
        draw("fig03", study, attention=write_all(tmp_path, frames))


def test_figure_4_shows_entropy_beside_information(paths: list[Path], study: Study) -> None:
    figure, drawn = draw("fig04", study, attention=paths)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "normalised mutual information",
        "attention entropy / log N",
    ]
    for panel, metric in enumerate(("nmi", "attention_entropy")):
        rows = drawn[(drawn["kind"] == "mean") & (drawn["metric"] == metric) & (drawn["model"] == "simmim")]
        assert np.allclose(line_of(figure, "SimMIM", panel).get_ydata(), rows["value"])
        low, high = figure.axes[panel].get_ylim()
        assert low <= drawn[drawn["metric"] == metric]["value"].min()
        assert high >= drawn[drawn["metric"] == metric]["value"].max()
    dotted = drawn[drawn["kind"] == "uniform"]
    assert dotted[["metric", "value"]].to_numpy().tolist() == [["attention_entropy", 1.0]]
    assert "NMI is 0 for uniform attention and for one key shared by all queries" in footer_of(figure)


def test_the_footer_names_study_images_and_seeds(paths: list[Path], study: Study) -> None:
    frame = read_tables(paths, fig03.COLUMNS)
    text = footer_of(draw("fig03", study, attention=frame)[0])
    assert text.startswith("Reduced study")
    assert "smoke (smoke test on a handful of composed images)" in text
    assert "MoCo v3, SimMIM; 12 images; seed 0" in text
    assert "Missing" not in text
    full = study.model_copy(update={"reduced": False})
    assert "Reduced" not in footer_of(draw("fig03", full, attention=frame)[0])


def test_a_missing_model_is_said_not_hidden(tmp_path: Path, study: Study) -> None:
    (path,) = write_all(tmp_path, {"moco_v3": attention_table("moco_v3")})
    for name in ("fig03", "fig04"):
        figure, _ = draw(name, study, attention=[path])
        assert "MoCo v3; 12 images" in footer_of(figure)  # not among those drawn
        assert "Missing: SimMIM, untrained ViT-64/8, untrained BEiT-like-64/8." in footer_of(figure)


@pytest.mark.parametrize("name", ["fig03", "fig04"])
def test_tables_of_another_study_are_not_drawn_as_this_one(tmp_path: Path, study: Study, name: str) -> None:
    paths = write_all(tmp_path, {"moco_v3": attention_table("moco_v3", study="gpu")})
    with pytest.raises(UserError, match="tables of study gpu cannot be drawn as 'smoke'"):
        draw(name, study, attention=paths)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_missing_block_is_named(paths: list[Path], study: Study, block: int) -> None:
    frame = read_tables(paths, fig03.COLUMNS)
    frame = frame[(frame["model"] != "simmim") | (frame["depth"] != block)]
    with pytest.raises(UserError, match=rf"table of simmim: .* blocks \({block}; the encoder has 1 … 3\)"):
        draw("fig03", study, attention=frame)


def test_encoders_on_different_images_are_not_compared(paths: list[Path], study: Study) -> None:
    frame = read_tables(paths, fig03.COLUMNS)
    half = frame["image"].isin([f"val/a/{image}.jpg" for image in range(6)])
    with pytest.raises(UserError, match="moco_v3 and simmim differ in 6 images"):
        draw("fig03", study, attention=frame[(frame["model"] != "simmim") | half])


def test_values_that_cannot_be_averaged_are_refused(study: Study) -> None:
    frame = attention_table("moco_v3")
    one = frame[frame["image"] == "val/a/0.jpg"]
    with pytest.raises(UserError, match="moco_v3 has one image"):
        depth_curves(one, "nmi", study.figures.bootstrap)
    rows = frame.index[frame["metric"] == "nmi"]
    twice = frame.copy()
    twice.loc[rows[0], "head"] = 1  # one head twice and one missing: the count alone is right
    with pytest.raises(UserError, match="values of nmi"):
        depth_curves(twice, "nmi", study.figures.bootstrap)
    frame.loc[rows[5], "value"] = np.nan
    with pytest.raises(UserError, match=r"nmi of image val/a/0\.jpg is not finite at depth 3, head 1"):
        depth_curves(frame, "nmi", study.figures.bootstrap)


def test_seeds_of_controls_are_no_training_seeds(tmp_path: Path, study: Study) -> None:
    frames = {"moco_v3": attention_table("moco_v3"), "untrained_vit": attention_table("untrained_vit", seed=7)}
    text = footer_of(draw("fig03", study, attention=write_all(tmp_path, frames))[0])
    assert "12 images; seed 0, controls seed 7." in text
    assert "averaged" not in text
    frames["simmim"] = attention_table("simmim", seed=3)
    text = footer_of(draw("fig03", study, attention=write_all(tmp_path, frames))[0])
    assert "MoCo v3 seed 0, SimMIM seed 3, untrained ViT-64/8 seed 7." in text
    frames = {f"moco_v3_{seed}": attention_table("moco_v3", seed=seed) for seed in (0, 1)}
    text = footer_of(draw("fig03", study, attention=write_all(tmp_path, frames))[0])
    assert "seeds 0, 1 (averaged within an image; the band leaves their spread out)" in text


def test_the_order_of_the_tables_changes_nothing(paths: list[Path], study: Study) -> None:
    looks = []
    for order in (paths, paths[::-1]):
        figure, drawn = draw("fig03", study, attention=order)
        lines = figure.axes[0].get_lines()
        looks.append(([(line.get_label(), line.get_color()) for line in lines], drawn.to_csv()))
    assert looks[0] == looks[1]


def test_every_series_is_told_apart_without_colour(study: Study) -> None:
    styles = series_styles(study)
    looks = {(look.marker, str(look.linestyle)) for look in styles.values()}
    assert len(looks) == len(study.models) + len(study.controls())
    assert styles["moco_v3"].linestyle != styles["simmim"].linestyle


def test_a_method_looks_the_same_whatever_else_a_study_has_and_in_the_papers_points(study: Study) -> None:
    few = study.model_copy(update={"models": {name: study.models[name] for name in ("mae", "dino", "hybrid_05")}})
    styles, fewer = series_styles(study), series_styles(few)
    for name in few.models:
        assert (styles[name].color, styles[name].marker) == (fewer[name].color, fewer[name].marker)
    names = {"moco_v3": "MoCo v3†", "dino": "DINO", "mae": "MAE", "beit": "BEiT", "simmim": "SimMIM"}
    for model, name in names.items():
        assert published_colour(name) == shaded(styles[model].color, 0.62)
    assert published_colour("λ = 0.5") == shaded(styles["hybrid_05"].color, 0.62)
    assert published_colour("iBOT") == "#b8b8b8"


def test_sizes_of_a_method_and_methods_of_ones_own_have_looks_of_their_own(study: Study) -> None:
    own = study.models["simmim"].model_copy(
        update={"objective": study.models["simmim"].objective.model_copy(update={"method": "own"})}
    )
    wide = study.model_copy(update={"models": study.models | {"simmim_wide": study.models["simmim"], "own": own}})
    styles = series_styles(wide)
    assert len({(look.color, look.marker) for look in styles.values()}) == len(styles)
    assert styles["own"].linestyle == styles["simmim"].linestyle == styles["simmim_wide"].linestyle


def test_no_type_is_smaller_than_seven_points(paths: list[Path], study: Study) -> None:
    figure, _ = draw("fig04", study, attention=paths)
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 7


# ------------------------------------------------------------------------------------------------
# Figure 2
# ------------------------------------------------------------------------------------------------


def test_figure_2_draws_every_map_in_multiples_of_uniform(tmp_path: Path, study: Study) -> None:
    paths = write_all(tmp_path, {model: maps_table(model) for model in ENCODERS})
    figure, drawn = draw("fig02", study, maps=paths, pixels=image_table())
    panels = [axes for axes in figure.axes if axes.get_images()]
    assert len(panels) == 4 * 5
    shown = panels[1].get_images()[0].get_array()  # MoCo v3, query 0, mean over heads
    rows = drawn[(drawn["model"] == "moco_v3") & (drawn["query"] == 0) & (drawn["head"] == -1)]
    table = rows.pivot_table(index="key_row", columns="key_col", values="times_uniform").to_numpy()
    assert np.allclose(shown, table)
    assert shown.mean() == pytest.approx(1)  # rows of attention sum to 1
    assert panels[0].get_ylabel() == "MoCo v3\nblock 2"
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in panels[0].get_lines()]
    assert set(marks) == {(3, 2), (0, 0)}


def test_figure_2_refuses_maps_of_another_image_or_missing_maps(tmp_path: Path, study: Study) -> None:
    frame = read_tables(write_all(tmp_path, {"moco_v3": maps_table("moco_v3")}), fig02.COLUMNS)
    with pytest.raises(UserError, match="different images"):
        draw("fig02", study, maps=frame, pixels=image_table().assign(image="val/b/1.jpg"))
    with pytest.raises(UserError, match="35 of 36 values of query 0, head -1"):
        draw("fig02", study, maps=frame.iloc[1:], pixels=image_table())
    with pytest.raises(UserError, match="moco_v3 has no map of query 1"):
        draw("fig02", study, maps=frame[frame["query"] == 0], pixels=image_table())
    with pytest.raises(UserError, match="maps of block 1 but not of 2"):
        draw("fig02", study, maps=frame.assign(depth=1), pixels=image_table())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (image_table().drop(columns="blue"), "no column blue"),
        (image_table().iloc[5:], "no whole image"),
        (image_table(study="gpu"), "different studies"),
        (image_table().assign(data_hash="e"), "different data sets"),
    ],
)
def test_figure_2_refuses_a_wrong_image(tmp_path: Path, study: Study, image: pd.DataFrame, message: str) -> None:
    frame = read_tables(write_all(tmp_path, {"moco_v3": maps_table("moco_v3")}), fig02.COLUMNS)
    with pytest.raises(UserError, match=message):
        draw("fig02", study, maps=frame, pixels=write_all(tmp_path, {"pixels": image}))


def test_figure_2_keeps_controls_of_other_seeds_and_writes_its_pixels(tmp_path: Path, study: Study) -> None:
    frames = {"moco_v3": maps_table("moco_v3"), "untrained_vit": maps_table("untrained_vit", seed=7)}
    figure, drawn = draw("fig02", study, maps=write_all(tmp_path, frames), pixels=image_table())
    assert len([axes for axes in figure.axes if axes.get_images()]) == 2 * 5
    assert "1 image; seed 0, controls seed 7." in footer_of(figure)
    pixels = drawn[drawn["kind"] == "pixel"]
    shown = figure.axes[0].get_images()[0].get_array()
    assert (
        shown[5, 7].tolist()
        == pixels[(pixels["row"] == 5) & (pixels["col"] == 7)][["red", "green", "blue"]].to_numpy().ravel().tolist()
    )


def test_near_uniform_maps_do_not_glow(tmp_path: Path, study: Study) -> None:
    flat = maps_table("untrained_vit").assign(value=1 / 36)
    figure, _ = draw("fig02", study, maps=write_all(tmp_path, {"untrained_vit": flat}), pixels=image_table())
    drawn = next(axes for axes in figure.axes[1:] if axes.get_images()).get_images()[0]
    assert drawn.norm(1.0) == pytest.approx(0.5)


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


def test_equal_tables_give_equal_files_with_embedded_fonts(paths: list[Path], study: Study, tmp_path: Path) -> None:
    frame = read_tables(paths, fig03.COLUMNS)
    for name in ("one", "two"):
        picture, drawn = draw("fig03", study, attention=frame)
        figure = fig03.FIGURE
        style.save(picture, drawn, tmp_path / name / "fig3.pdf", title=figure.title, caption=figure.caption)
    for suffix in ("pdf", "png", "csv"):
        first, second = ((tmp_path / name / f"fig3.{suffix}").read_bytes() for name in ("one", "two"))
        assert first == second
    pdf = (tmp_path / "one" / "fig3.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    back = pd.read_csv(tmp_path / "one" / "fig3.csv")
    assert {"kind", "model", "depth", "value", "low", "high", "git_commit", "data_hash"} <= set(back.columns)


def test_drawing_leaves_matplotlibs_settings_alone(paths: list[Path], study: Study) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw("fig03", study, attention=paths)
    assert dict(mpl.rcParams) == before


def test_the_command_writes_all_three_files_or_says_what_is_missing(root: Path, tmp_path: Path) -> None:
    config, reference = root / "config" / "smoke.yaml", REFERENCE
    write_all(tmp_path / "attention", {f"{model}_seed0": attention_table(model) for model in ENCODERS})
    output = tmp_path / "out" / "fig4.pdf"
    figures("fig04", config=config, tables=tmp_path, output=output, reference=reference)
    assert sorted(path.name for path in output.parent.iterdir()) == ["fig4.csv", "fig4.pdf", "fig4.png"]
    (tmp_path / "attention" / "simmim_seed0.parquet").unlink()
    with pytest.raises(UserError, match=r"^table .*simmim_seed0\.parquet does not exist; build it with"):
        figures("fig4", config=config, tables=tmp_path, output=output, reference=reference)
    with pytest.raises(UserError, match=r"^there is no figure 'fig13'; there are: .*fig2, .*fig10"):
        figures("fig13", config=config, tables=tmp_path, output=output, reference=reference)
