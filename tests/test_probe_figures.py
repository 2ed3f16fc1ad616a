"""Figure 10 and the coarse-grained appendix, from tiny tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.figures import style
from cl_vs_mim.figures.figure import figures_of
from cl_vs_mim.figures.probes import COLUMNS
from cl_vs_mim.figures.tables import read_tables
from figure_tables import BLOCKS, ENCODERS, _constants, write_all
from figure_tables import draw as draw_figure

RATES = {"moco_v3": 0.8, "simmim": 0.5, "untrained_vit": 0.3, "untrained_beit": 0.2}


def probe_table(model: str, seed: int = 0, study: str = "smoke") -> pd.DataFrame:
    """Random answers for both kinds of label, both splits of the categories, all depths and poolings."""
    generator = np.random.default_rng([list(ENCODERS).index(model), seed])
    panels = (("class", "val", 20, 5, 0.05), ("category", "val", 20, 4, 0.3), ("category", "heldout", 8, 4, 0.25))
    rows = [
        {"labels": labels, "split": split, "classes": classes, "chance": chance, "image": f"{split}/a/{image}.jpg"}
        | {"depth": depth, "pooling": pooling, "learning_rate": 1.0, "value": float(generator.random() < RATES[model])}
        for labels, split, count, classes, chance in panels
        for image in range(count)
        for depth in range(BLOCKS + 1)
        for pooling in ("cls", "mean")
    ]
    return pd.DataFrame(rows).assign(metric="top1", protocol="cached", **_constants(model, seed, study))


@pytest.fixture(scope="module")
def study(root: Path) -> Study:
    return load_study(root / "config" / "smoke.yaml")


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return read_tables(write_all(tmp_path, {model: probe_table(model) for model in ENCODERS}), COLUMNS)


def line_of(figure: Figure, label: str, panel: int):
    return next(line for line in figure.axes[panel].get_lines() if line.get_label() == label)


def expected(frame: pd.DataFrame, **chosen: str) -> np.ndarray:
    for column, value in chosen.items():
        frame = frame[frame[column] == value]
    return 100 * frame.groupby("depth")["value"].mean().to_numpy()


def test_figure_10_draws_accuracies_in_per_cent(frame: pd.DataFrame, study: Study) -> None:
    figure, drawn = draw_figure("fig10", study, probe=frame)
    for panel, pooling in enumerate(("mean", "cls")):
        for model, (label, _, _, _) in ENCODERS.items():
            line = line_of(figure, label, panel)
            assert line.get_xdata().tolist() == [0, 1, 2, 3]
            wanted = expected(frame, model=model, labels="class", split="val", pooling=pooling)
            np.testing.assert_allclose(line.get_ydata(), wanted)
        assert line_of(figure, "always the commonest label", panel).get_ydata()[0] == pytest.approx(5)
        assert figure.axes[panel].get_xlabel() == "depth (block; 0 = embedding)"
        low, high = figure.axes[panel].get_xlim()
        assert low < 0 and high > 3
    assert figure.axes[0].get_ylabel() == "top-1 of 5 classes (%)"
    assert figure.axes[0].get_ylim()[0] == 0
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["(a) mean of patch tokens", "(b) CLS token"]
    means = drawn[drawn["kind"] == "mean"]
    assert len(means) == 4 * 4 * 2 and ((means["low"] <= means["value"]) & (means["value"] <= means["high"])).all()
    footer = figure.get_supxlabel().replace("\n", " ")
    assert "MoCo v3, SimMIM; 20 images" in footer
    assert "Probes on cached features (no augmentation). Band: 95% bootstrap over images." in footer


def test_published_curves_keep_their_ratio(frame: pd.DataFrame, study: Study) -> None:
    figure, drawn = draw_figure("fig10", study, probe=frame)
    faint = drawn[drawn["kind"] == "reference"]
    assert set(faint["model"]) == {"moco_v3", "simmim"}  # MAE is published, but not of the pair
    scale = faint["value"] / faint["published_value"]
    assert scale.max() == pytest.approx(scale.min())  # one number: the gap between the two stays what it is
    trained = drawn[(drawn["kind"] == "mean") & drawn["paradigm"].isin(["cl", "mim"])]
    assert faint["value"].max() == pytest.approx(trained["value"].max())
    for panel in (0, 1):
        line = line_of(figure, "SimMIM, published (right axis)", panel)
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (1, 3)
        assert line.get_ydata()[-1] / scale.iloc[0] == pytest.approx(45.34)
    right = next(child for child in figure.axes[1].child_axes)
    assert right.get_ylabel() == "published, 1,000 classes (%)"


def test_figure_10_shows_the_pair_alone(frame: pd.DataFrame, study: Study) -> None:
    third = study.models["simmim"].model_copy(update={"label": "SimMIM two"})
    more = study.model_copy(update={"models": {**study.models, "simmim_two": third}})
    extra = frame[frame["model"] == "simmim"].assign(model="simmim_two", label="SimMIM two")
    both = pd.concat([frame, extra], ignore_index=True)
    _, drawn = draw_figure("fig10", more, probe=both)
    assert "simmim_two" not in set(drawn["model"])
    _, drawn = draw_figure("appendix_coarse", more, probe=both)
    assert "simmim_two" in set(drawn["model"])
    with pytest.raises(UserError, match="no table is of moco_v3, simmim, untrained_vit"):
        draw_figure("fig10", more, probe=extra)


def test_the_coarse_appendix_sets_known_beside_unknown_objects(frame: pd.DataFrame, study: Study) -> None:
    figure, drawn = draw_figure("appendix_coarse", study, probe=frame)
    panels = [("mean", "val"), ("mean", "heldout"), ("cls", "val"), ("cls", "heldout")]
    for panel, (pooling, split) in enumerate(panels):
        for model, (label, _, _, _) in ENCODERS.items():
            wanted = expected(frame, model=model, labels="category", split=split, pooling=pooling)
            np.testing.assert_allclose(line_of(figure, label, panel).get_ydata(), wanted)
        chance = line_of(figure, "always the commonest label", panel).get_ydata()[0]
        assert chance == pytest.approx(30 if split == "val" else 25)
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == ["objects trained on, new images (20 images)", "objects never trained on (8 images)"]
    assert figure.axes[0].get_ylabel() == "top-1 of 4 categories (%)\nmean of patch tokens"
    assert len(drawn[drawn["kind"] == "chance"]) == 2
    alone, _ = draw_figure("appendix_coarse", study, probe=frame[frame["split"] == "val"])
    assert len(alone.axes) == 2


def test_incomplete_tables_are_refused(frame: pd.DataFrame, study: Study) -> None:
    def draw(rows: pd.DataFrame) -> None:
        draw_figure("fig10", study, probe=rows)

    simmim = frame["model"] == "simmim"
    with pytest.raises(UserError, match=r"simmim: probes of val, pooling cls, lack depths .* \(2; .* 0 … 3\)"):
        draw(frame[~(simmim & (frame["depth"] == 2) & (frame["pooling"] == "cls"))])
    with pytest.raises(UserError, match=r"moco_v3 and simmim differ in 1 images of val \(val/a/7\.jpg"):
        draw(frame[~(simmim & (frame["image"] == "val/a/7.jpg"))])
    one = frame.index[simmim & (frame["labels"] == "class") & (frame["pooling"] == "mean")][3]
    with pytest.raises(UserError, match="79 values of top1 instead of 80"):
        draw(frame.drop(index=one))
    with pytest.raises(UserError, match="tables of simmim have no probe of 'class'"):
        draw(frame[~(simmim & (frame["labels"] == "class"))])
    with pytest.raises(UserError, match=r"probes of different classes \(5, 6\)"):
        draw(frame.assign(classes=frame["classes"].mask(simmim & (frame["labels"] == "class"), 6)))
    with pytest.raises(UserError, match="differ in their chance level"):
        draw(frame.assign(chance=frame["chance"].mask(simmim, 0.5)))
    with pytest.raises(UserError, match="tables of study smoke cannot be drawn as 'gpu'"):
        draw_figure("fig10", study.model_copy(update={"study": "gpu"}), probe=frame)


def test_both_are_written_and_readable(frame: pd.DataFrame, study: Study, tmp_path: Path) -> None:
    for name in ("fig10", "appendix_coarse"):
        figure, drawn = draw_figure(name, study, probe=frame)
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
        assert min(sizes) >= 7
        style.save(figure, drawn, tmp_path / f"{name}.pdf", title="t", caption="c")
        assert {path.suffix for path in tmp_path.glob(f"{name}.*")} == {".pdf", ".png", ".csv"}


def test_the_coarse_appendix_needs_labels_by_category(study: Study) -> None:
    assert "appendix_coarse" in figures_of(study)
    probe = study.analysis.probe.model_copy(update={"labels": ["class"]})
    without = study.model_copy(update={"analysis": study.analysis.model_copy(update={"probe": probe})})
    assert "appendix_coarse" not in figures_of(without) and "fig10" in figures_of(without)
