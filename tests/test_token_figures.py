"""Figures 5 to 8 and their appendix: rendered from tiny tables, with the right axes, labels and series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import write_table
from cl_vs_mim.figures.commands import figures
from figure_tables import (
    BLOCKS,
    ENCODERS,
    HEADS,
    IMAGES,
    REFERENCE,
    attention_table,
    diversity_table,
    draw,
    fourier_table,
    image_spectrum_table,
    maps_table,
    movement_table,
    movement_tokens_table,
    token_spectrum_table,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(ROOT / "config" / "smoke.yaml")


def all_of(table: Callable[..., pd.DataFrame], models=ENCODERS) -> pd.DataFrame:
    return pd.concat([table(model) for model in models], ignore_index=True)


def legend_of(figure: Figure) -> set[str]:
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def footer_of(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def labels_of(figure: Figure) -> list[str]:
    return [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]


LABELS = {label for label, *_ in ENCODERS.values()}


# ------------------------------------------------------------------------------------------------
# Figure 5
# ------------------------------------------------------------------------------------------------


def test_figure_5_has_three_panels_of_the_variants_the_study_names(study):
    frame = all_of(diversity_table)
    figure, drawn = draw("fig05", study, diversity=frame)
    assert labels_of(figure) == [
        "cosine between heads",
        "cosine around self-attention",
        "cosine between positions\n(outputs of a head)",
    ]
    assert legend_of(figure) == LABELS
    assert set(drawn["metric"]) == {"head_similarity", "depth_similarity_attention", "token_similarity_heads"}
    wanted = frame.query("metric == 'head_similarity' and model == 'simmim'").groupby("depth")["value"].mean()
    rows = drawn.query("metric == 'head_similarity' and model == 'simmim' and kind == 'mean'").set_index("depth")
    np.testing.assert_allclose(rows["value"], wanted)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == BLOCKS]
    assert any(np.allclose(line.get_ydata(), wanted) for line in lines)
    heads = drawn[drawn["kind"] == "head"]
    assert set(heads["metric"]) == {"token_similarity_heads"} and set(heads["head"]) == set(range(HEADS))
    assert f"{IMAGES} images" in footer_of(figure) and "Reduced study" in footer_of(figure)


def test_the_appendix_draws_the_other_variants(study):
    _, drawn = draw("appendix_diversity", study, diversity=all_of(diversity_table))
    assert set(drawn["metric"]) == {"depth_similarity_blocks", "token_similarity_blocks"}
    changed = study.figures.model_copy(
        update={"diversity": study.figures.diversity.model_copy(update={"depths": "blocks", "tokens": "blocks"})}
    )
    other = study.model_copy(update={"figures": changed})
    _, drawn = draw("appendix_diversity", other, diversity=all_of(diversity_table))
    assert set(drawn["metric"]) == {"depth_similarity_attention", "token_similarity_heads"}


def test_an_incomplete_table_is_refused(study):
    frame = all_of(diversity_table)
    with pytest.raises(UserError, match="missing or unknown blocks"):
        draw("fig05", study, diversity=frame[frame["depth"] != 2])
    with pytest.raises(UserError, match="no values of token_similarity_heads"):
        draw(
            "fig05",
            study,
            diversity=frame[(frame["metric"] != "token_similarity_heads") | (frame["model"] != "simmim")],
        )


# ------------------------------------------------------------------------------------------------
# Figure 6
# ------------------------------------------------------------------------------------------------


def test_figure_6_shows_tokens_means_and_numbers(study):
    frame, movement = all_of(movement_tokens_table), all_of(movement_table)
    figure, drawn = draw("fig06", study, tokens=frame, movement=movement)
    panels = np.array(figure.axes).reshape(len(ENCODERS), 6)
    assert [axes.get_ylabel().replace("\n", " ") for axes in panels[:, 0]] == [
        "MoCo v3",
        "SimMIM",
        "untrained ViT-64/8",
        "untrained BEiT-like-64/8",
    ]
    rows = frame.query("model == 'simmim' and count == 2 and place == 'late' and when == 'after'")
    second = rows[rows["image"] == "val/a/1.jpg"]
    points = [line.get_xydata() for line in panels[1, 4].lines]
    assert any(len(each) == 4 and np.allclose(each, second[["x", "y"]]) for each in points)
    crosses = [line.get_xydata()[0] for line in panels[1, 4].lines if line.get_marker() == "x"]
    assert len(crosses) == 4 and any(np.allclose(cross, second[["x", "y"]].mean()) for cross in crosses)
    median = movement.query("model == 'simmim' and metric == 'displacement_variation' and depth == 1")["value"].median()
    assert panels[1, 0].get_title() == f"{median:.2g}"
    assert set(drawn["kind"]) == {"token", "displacement_variation"}


def test_figure_6_refuses_other_images_and_missing_panels(study):
    frame, movement = all_of(movement_tokens_table), all_of(movement_table)
    with pytest.raises(UserError, match="no panel 'late' of 1 image"):
        draw("fig06", study, tokens=frame[(frame["place"] != "late") | (frame["count"] == 2)], movement=movement)
    other = frame.assign(image=frame["image"].where(frame["model"] != "simmim", "val/b/7.jpg"))
    with pytest.raises(UserError, match="different images"):
        draw("fig06", study, tokens=other, movement=movement)


# ------------------------------------------------------------------------------------------------
# Figure 7
# ------------------------------------------------------------------------------------------------


def test_figure_7_has_spectra_and_the_value_at_a_share_of_the_ranks(study):
    tokens, images = all_of(token_spectrum_table), all_of(image_spectrum_table)
    figure, drawn = draw("fig07", study, tokens=tokens, images=images)
    assert labels_of(figure) == [
        "token level\nln singular value",
        "ln singular value at rank 3",  # a third of 9
        "image level\nln singular value",
        "ln singular value at rank 2",  # of 6
    ]
    assert legend_of(figure) == LABELS
    lines = drawn.query("kind == 'line' and level == 'token' and model == 'moco_v3' and depth == 2").sort_values("rank")
    wanted = tokens.query("model == 'moco_v3' and depth == 2").groupby("rank")["value"].mean()
    np.testing.assert_allclose(lines["value"], wanted)
    assert any(
        len(line.get_ydata()) == 9 and np.allclose(line.get_ydata(), wanted)
        for axes in figure.axes
        for line in axes.lines
    )
    curve = drawn.query("kind == 'mean' and level == 'image' and model == 'moco_v3'").sort_values("depth")
    table = images.query("model == 'moco_v3' and rank == 2").sort_values("depth")
    for column in ("value", "low", "high"):
        np.testing.assert_allclose(curve[column], table[column])
    assert curve["depth"].tolist() == [0, 1, 2, 3]


def test_figure_7_wants_both_tables_of_each_encoder(study):
    with pytest.raises(UserError, match="different encoders"):
        draw("fig07", study, tokens=all_of(token_spectrum_table), images=all_of(image_spectrum_table, ["moco_v3"]))


# ------------------------------------------------------------------------------------------------
# Figure 8
# ------------------------------------------------------------------------------------------------


def test_figure_8_is_read_at_the_highest_frequency_with_half_blocks(study):
    frame = all_of(fourier_table)
    figure, drawn = draw("fig08", study, fourier=frame)
    assert r"$\Delta$ log amplitude at 0.67 $\pi$" in labels_of(figure)
    assert legend_of(figure) == LABELS | {"MoCo v3, published (ViT-B/16)", "SimMIM, published (ViT-B/16)"}
    curve = drawn.query("kind == 'mean' and model == 'simmim'")
    assert curve["depth"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    last = frame[(frame["model"] == "simmim") & (frame["frequency"] > 0.5)]
    np.testing.assert_allclose(curve["value"], last.groupby("depth")["value"].mean())
    lines = drawn[drawn["kind"] == "line"]
    assert set(lines["depth"]) == {0, 1, 2, 3} and (lines.loc[lines["frequency"] == 0, "value"] == 0).all()
    published = drawn[drawn["kind"] == "reference"]
    assert set(published["method"]) == {"MoCo v3", "SimMIM"} and published["depth"].max() == BLOCKS
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["0.00", "0.33", "0.67"]


def test_figure_8_refuses_different_grids(study):
    frame = all_of(fourier_table)
    frame.loc[frame["model"] == "simmim", "grid"] = 7
    with pytest.raises(UserError, match="different grids"):
        draw("fig08", study, fourier=frame)
    with pytest.raises(UserError, match="missing or unknown blocks"):
        draw("fig08", study, fourier=all_of(fourier_table).query("depth != 0.5"))


# ------------------------------------------------------------------------------------------------
# Appendix
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def overview() -> dict[str, pd.DataFrame]:
    kinds = {"attention": attention_table, "diversity": diversity_table, "fourier": fourier_table}
    return {kind: all_of(table) for kind, table in kinds.items()}


def test_all_methods_say_which_of_the_papers_are_missing(overview, study):
    figure, drawn = draw("appendix_methods", study, **overview)
    assert "missing here: DINO, MAE, BEiT" in footer_of(figure)
    assert legend_of(figure) == LABELS
    assert set(drawn["metric"]) == {"share_of_uniform", "nmi", "token_similarity", "relative_log_amplitude"}
    assert drawn["relative_depth"].between(0, 1).all()
    # uniform attention on 6x6 patches of 8 px is 24.64 px far
    frame = attention_table("simmim").query("metric == 'attention_distance' and depth == 1")
    row = drawn.query("metric == 'share_of_uniform' and model == 'simmim' and depth == 1").iloc[0]
    assert row["value"] == pytest.approx(frame["value"].mean() / 24.6425, rel=1e-4)


def test_sizes_and_fine_tuning_say_what_the_study_lacks(overview, study):
    figure, drawn = draw("appendix_sizes", study, **overview)
    assert "One size only in this study: MoCo v3, SimMIM" in footer_of(figure)
    assert legend_of(figure) == {"MoCo v3, ViT-64/8", "SimMIM, BEiT-like-64/8"}
    assert set(drawn["model"]) == {"moco_v3", "simmim"}
    figure, _ = draw("appendix_finetuned", study, **overview)
    assert "No fine-tuned encoder in this study of: MoCo v3, SimMIM." in footer_of(figure)


def test_fine_tuned_encoders_are_drawn_beside_the_pre_trained(overview, study):
    tuned = {f"finetuned_{kind}": frame[frame["model"] == "simmim"].copy() for kind, frame in overview.items()}
    for frame in tuned.values():
        frame["value"] += 1
    figure, drawn = draw("appendix_finetuned", study, **overview, **tuned)
    assert legend_of(figure) == {"MoCo v3", "SimMIM", "SimMIM, fine-tuned"}
    assert "No fine-tuned encoder in this study of: MoCo v3." in footer_of(figure)
    both = drawn[drawn["metric"] == "nmi"].set_index(["model", "depth"])["value"]
    np.testing.assert_allclose(both["simmim, fine-tuned"], both["simmim"] + 1)
    assert list(dict.fromkeys(drawn["model"])) == ["moco_v3", "simmim", "simmim, fine-tuned"]
    tuned["finetuned_fourier"]["data_hash"] = "other"
    with pytest.raises(UserError, match="fourier tables of different images"):
        draw("appendix_finetuned", study, **overview, **tuned)


def test_every_head_is_a_dot(study):
    frame = all_of(attention_table)
    figure, drawn = draw("appendix_heads", study, attention=frame)
    panels = np.array(figure.axes).reshape(2, len(ENCODERS))
    dots = [line for line in panels[0, 1].lines if line.get_marker() == "o"]
    assert len(dots) == 1 and len(dots[0].get_ydata()) == BLOCKS * HEADS
    wanted = frame.query("metric == 'attention_distance' and model == 'simmim'").groupby(["depth", "head"])["value"]
    np.testing.assert_allclose(np.sort(dots[0].get_ydata()), np.sort(wanted.mean()))
    assert all(axes.get_ylim()[1] >= dots[0].get_ydata().max() for axes in panels[0])
    assert set(drawn["metric"]) == {"attention_distance", "nmi"}


def test_the_gallery_shows_every_block_and_head(study):
    frame = pd.concat(
        [all_of(maps_table, ["moco_v3", "simmim"]).assign(depth=depth) for depth in range(1, BLOCKS + 1)],
        ignore_index=True,
    )
    figure, drawn = draw("appendix_maps", study, maps=frame)
    images = [axes for part in figure.subfigs for axes in part.axes if axes.get_images()]
    assert len(images) == 2 * 2 * BLOCKS * HEADS
    assert len(drawn) == 2 * 2 * BLOCKS * HEADS * 36
    with pytest.raises(UserError, match="35 of 36 values of block 1, head 0, query 0"):
        draw("appendix_maps", study, maps=frame.drop(frame.index[(frame["head"] == 0) & (frame["query"] == 0)][0]))


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("fig05", {"diversity": diversity_table}),
        ("fig06", {"movement_tokens": movement_tokens_table, "movement": movement_table}),
        ("fig07", {"token_spectrum": token_spectrum_table, "image_spectrum": image_spectrum_table}),
        ("fig08", {"fourier": fourier_table}),
    ],
)
def test_the_command_writes_a_pdf_a_picture_and_what_is_drawn(tmp_path, name, kinds):
    for kind, table in kinds.items():
        for model in ENCODERS:
            write_table(tmp_path / kind / f"{model}_seed0.parquet", table(model))
    output = tmp_path / "figure.pdf"
    figures(name, config=ROOT / "config" / "smoke.yaml", tables=tmp_path, output=output, reference=REFERENCE)
    assert output.read_bytes().startswith(b"%PDF") and len(pd.read_csv(output.with_suffix(".csv"))) > 10
    picture = matplotlib.image.imread(output.with_suffix(".png"))
    assert picture.shape[1] == 2025 and picture[..., :3].std() > 0.05
