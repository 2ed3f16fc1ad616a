"""Figures 1 and 12 and Table 1: points from their tables, intervals over what varied, published values beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.config.tasks import project_score, scores
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.figures import result_tables as table1
from cl_vs_mim.figures.commands import table
from cl_vs_mim.figures.figure import figures_of
from cl_vs_mim.figures.scores import encoder_scores
from cl_vs_mim.figures.sources import GROUPS, made
from figure_tables import REFERENCE, attention_table, draw, fourier_table

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 40


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(ROOT / "config" / "smoke.yaml")


def constants(study: Study, model: str, seed: int) -> dict:
    head = dict.fromkeys(HEAD, "x") | {"study": study.study}
    if model in study.models:
        found = study.models[model]
        series = {"label": found.label, "method": found.objective.method, "paradigm": found.paradigm}
        return head | {"model": model, "seed": seed, **series, "architecture": found.architecture}
    series = {"label": model, "method": "untrained", "paradigm": "control", "architecture": study.controls()[model]}
    return head | {"model": model, "seed": seed, **series}


def answers(study: Study, model: str, accuracy: float, protocol: str = "finetuning", seed: int = 0) -> pd.DataFrame:
    right = (np.arange(IMAGES) < accuracy * IMAGES).astype(float)
    columns = {"labels": "class", "classes": 5, "split": "val", "depth": 3, "pooling": "mean", "metric": "top1"}
    columns |= {"protocol": protocol, "chance": 0.2, "learning_rate": 1.0, "parameters": 1000 + len(model)}
    images = [f"val/{number}" for number in range(IMAGES)]
    return pd.DataFrame({"image": images, "value": right}).assign(**columns, **constants(study, model, seed))


def dense(study: Study, model: str, value: float, task: str = "box", metric: str = "AP") -> pd.DataFrame:
    rows = [{"task": task, "metric": metric, "category": category, "value": value} for category in ("all", "bird")]
    return pd.DataFrame(rows).assign(**constants(study, model, 0))


def write_scores(folder: Path, study: Study) -> None:
    """The tables behind Table 1, one file an encoder."""
    for run, (model, seed) in GROUPS["methods"](study).items():
        frames = {"finetuning": answers(study, model, 0.5, seed=seed)}
        frames["augmented_probe"] = answers(study, model, 0.4, "augmented_probe", seed)
        if run in made(study, "detection"):
            frames["detection"] = pd.concat([dense(study, model, 12.0, task) for task in ("box", "mask")])
            frames["segmentation"] = dense(study, model, 30.0, "segmentation", "mIoU")
        for kind, frame in frames.items():
            (folder / kind).mkdir(exist_ok=True)
            frame.to_parquet(folder / kind / f"{run}.parquet")


MODELS = ("moco_v3", "simmim", "untrained_vit")


@pytest.fixture
def tables(study: Study) -> dict[str, pd.DataFrame]:
    tuned = [answers(study, name, share) for name, share in zip(MODELS, (0.5, 0.6, 0.3), strict=True)]
    probed = [
        answers(study, name, share, "augmented_probe") for name, share in zip(MODELS, (0.4, 0.2, 0.25), strict=True)
    ]
    boxes = [dense(study, name, value) for name, value in zip(MODELS, (12.0, 15.0, 3.0), strict=True)]
    masks = [dense(study, name, value, "mask") for name, value in zip(MODELS, (11.0, 14.0, 2.0), strict=True)]
    frames = {"finetuning": tuned, "augmented_probe": probed, "detection": boxes + masks}
    return {kind: pd.concat(found, ignore_index=True) for kind, found in frames.items()}


def collected(study: Study, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of a table of results."""
    return table1.collect(tables | {"reference": read_table(REFERENCE)}, study)


# ------------------------------------------------------------------------------------------------
# Scores
# ------------------------------------------------------------------------------------------------


def test_one_seed_has_an_interval_over_images(study: Study, tables) -> None:
    scores = encoder_scores(project_score("fine-tuning"), tables["finetuning"], study.figures.bootstrap).set_index(
        "model"
    )
    row = scores.loc["moco_v3"]
    assert row["value"] == 50 and row["low"] < 50 < row["high"]
    assert (row["interval"], row["seeds"], row["images"]) == ("images", 1, IMAGES)


def test_several_seeds_have_students_interval(study: Study, tmp_path: Path) -> None:
    shares = (0.4, 0.5, 0.75)
    frame = pd.concat([answers(study, "moco_v3", share, seed=seed) for seed, share in enumerate(shares)])
    row = encoder_scores(project_score("fine-tuning"), frame, study.figures.bootstrap).iloc[0]
    values = 100 * np.array(shares)
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert row["interval"] == "seeds" and row["value"] == pytest.approx(55)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))


def test_what_does_not_compare_is_refused(study: Study, tmp_path: Path) -> None:
    one, other = answers(study, "moco_v3", 0.5), answers(study, "simmim", 0.5)
    for changed, message in (
        (other.assign(protocol="augmented_probe"), "different protocol"),
        (other.assign(labels="category"), "different labels"),
        (other.iloc[1:], "different images"),
    ):
        with pytest.raises(UserError, match=message):
            encoder_scores(project_score("fine-tuning"), pd.concat([one, changed]), study.figures.bootstrap)
    with pytest.raises(UserError, match="no table has mask AP"):
        encoder_scores(project_score("mask AP"), dense(study, "simmim", 1.0), study.figures.bootstrap)


# ------------------------------------------------------------------------------------------------
# Figures
# ------------------------------------------------------------------------------------------------


def markers(axes) -> dict[str, tuple[float, float]]:
    return {bar.get_label(): tuple(float(axis[0]) for axis in bar.lines[0].get_data()) for bar in axes.containers}


def test_figure_1_puts_every_encoder_where_its_tables_say(study: Study, tables) -> None:
    figure, drawn = draw("fig01", study, **tables)
    probing, sizes, boxes, *published = figure.axes
    untrained = f"untrained {study.architectures['vit'].label}"
    assert markers(probing) == {"MoCo v3": (40, 50), "SimMIM": (20, 60), untrained: (25, 30)}
    assert markers(boxes) == {"MoCo v3": (12, 50), "SimMIM": (15, 60), untrained: (3, 30)}
    assert markers(sizes)["SimMIM"] == (1006, 60) and sizes.get_xscale() == "log"
    assert [axes.get_xlabel() for axes in figure.axes[:3]] == ["linear probing (%)", "parameters", "box AP"]
    texts = {text.get_text() for text in published[0].texts}
    assert texts == {"MoCo v3", "DINO", "MAE", "BEiT", "SimMIM"}
    assert {"MoCo v3†", "SimMIM†"} <= {text.get_text() for text in published[1].texts}
    assert set(drawn["source"]) == {"this study", "published"}
    assert "Reduced study" in figure.get_supxlabel()
    assert "bars: 95% over images" in " ".join(figure.get_supxlabel().split())
    bootstrap = study.figures.bootstrap.model_copy(update={"level": 0.9})
    narrow = study.model_copy(update={"figures": study.figures.model_copy(update={"bootstrap": bootstrap})})
    figure, narrower = draw("fig01", narrow, **tables)
    assert "bars: 90% over images" in " ".join(figure.get_supxlabel().split())
    assert (narrower["y_low"].dropna() >= drawn["y_low"].dropna()).all()


def test_figure_1_says_what_the_study_does_not_have(study: Study, tables) -> None:
    figure, _ = draw("fig01", study, finetuning=tables["finetuning"], augmented_probe=tables["augmented_probe"])
    assert [text.get_text() for text in figure.axes[2].texts] == ["not measured\nin this study"]


def test_figure_12_joins_the_hybrids_in_the_order_of_their_weight(study: Study, tmp_path: Path) -> None:
    more = study.models["hybrid_05"]
    sweep = {
        f"hybrid_{round(10 * weight):02}": more.model_copy(
            update={
                "label": f"CL + MIM, λ = {weight:g}",
                "objective": more.objective.model_copy(update={"weight": weight}),
            }
        )
        for weight in (1.0, 0.0, 0.5)
    }
    wide = study.model_copy(update={"models": study.models | sweep})
    shares = {"hybrid_00": 0.2, "hybrid_05": 0.6, "hybrid_10": 0.4}
    tuned = pd.concat([answers(wide, name, share) for name, share in shares.items()])
    probed = pd.concat([answers(wide, name, share / 2, "augmented_probe") for name, share in shares.items()])

    def measured(table) -> pd.DataFrame:
        template = {name: table("simmim") for name in shares}
        frames = []
        for name, frame in template.items():
            columns = {"model": name, "label": wide.models[name].label, "method": "hybrid", "paradigm": "hybrid"}
            frames.append(frame.assign(**columns, architecture=wide.models[name].architecture))
        return pd.concat(frames, ignore_index=True)

    curves = {"attention": measured(attention_table), "fourier": measured(fourier_table)}
    figure, drawn = draw("fig12", wide, finetuning=tuned, augmented_probe=probed, **curves)
    ours, theirs, information, spectrum = figure.axes
    x, y = ours.lines[0].get_data()
    np.testing.assert_allclose(x, [10, 30, 20])
    np.testing.assert_allclose(y, [20, 60, 40])
    assert {text.get_text() for text in theirs.texts} == {
        f"λ = {weight}" for weight in ("0.0", "0.2", "0.4", "0.6", "1.0")
    }
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["λ = 0", "λ = 0.5", "λ = 1"]
    assert "mutual information" in information.get_ylabel() and "amplitude" in spectrum.get_ylabel()
    assert set(drawn["kind"]) >= {"score", "published", "mean"}
    assert drawn.loc[drawn["kind"] == "score", "lambda"].tolist() == [0, 0.5, 1]
    assert drawn.loc[drawn["kind"] == "published", "lambda"].tolist() == [0, 0.2, 0.4, 0.6, 1]


def test_figure_12_and_table_2_need_hybrids(study: Study) -> None:
    without = {name: model for name, model in study.models.items() if model.paradigm != "hybrid"}
    lean = study.model_copy(update={"models": without})
    assert "fig12" in figures_of(study) and "fig12" not in figures_of(lean)
    assert (table1.tables_of(study), table1.tables_of(lean)) == (["transfer", "hybrid"], ["transfer"])


def test_a_study_without_transfer_has_no_figure_of_it(study: Study) -> None:
    none = study.model_copy(update={"transfer": None})
    assert set(figures_of(study)) - set(figures_of(none)) == {"fig1", "fig12"}
    assert table1.tables_of(none) == []


# ------------------------------------------------------------------------------------------------
# Table 1
# ------------------------------------------------------------------------------------------------


def test_table_1_holds_value_interval_published_value_and_gap(study: Study, tables) -> None:
    rows = collected(study, tables)
    row = rows.set_index(["model", "task"]).loc[("simmim", "fine-tuning")]
    assert (row["value"], row["published"], row["gap"]) == (60, 83.8, pytest.approx(-23.8))
    assert rows.set_index(["model", "task"]).loc[("untrained_vit", "fine-tuning"), "gap"] != row["gap"]
    grid = table1.grid(rows, study)
    assert list(grid.columns) == ["encoder", "size", "linear probe (%)", "fine-tuning (%)", "box AP", "mask AP"]
    assert list(grid["encoder"]) == ["MoCo v3", "SimMIM", "untrained_vit"]
    assert grid.loc[0, "box AP"] == "12.0 (47.9, -35.9)" and grid.loc[2, "box AP"] == "3.0"
    text = table1.caption(study, rows)
    assert "Reduced study" in text and "one seed" in text
    assert table1.markdown(grid, text).count("|") == 7 * (2 + len(grid))
    latex = table1.latex(grid, text)
    assert latex.count(r"\\") == 1 + len(grid) and r"(\%)" in latex and "untrained\\_vit" in latex


def test_latex_and_markdown_take_any_sign(study: Study, tables) -> None:
    grid = table1.grid(collected(study, tables), study).assign(encoder=r"50 % & a_b #1 $x^2$ {λ} \up ~ | –")
    text = table1.latex(grid, r"c_1 & 5 % #2 $y$ {z} \down ^ ~")
    assert r"50 \% \& a\_b \#1 \$x\textasciicircum 2\$ \{$\lambda$\} \textbackslash up \textasciitilde" in text
    assert r"\caption{c\_1 \& 5 \% \#2 \$y\$ \{z\} \textbackslash down" in text
    assert table1.markdown(grid, "").splitlines()[-1].replace(r"\|", "").count("|") == 1 + grid.shape[1]


def test_table_2_has_the_published_values_of_its_weights(study: Study, tmp_path: Path) -> None:
    more = study.models["hybrid_05"]
    light = more.model_copy(update={"objective": more.objective.model_copy(update={"weight": 0.2})})
    wide = study.model_copy(update={"models": study.models | {"hybrid_02": light}})
    names = ("hybrid_02", "hybrid_05")
    tuned = pd.concat([answers(wide, name, 0.5) for name in names])
    probed = pd.concat([answers(wide, name, 0.5, "augmented_probe") for name in names])
    rows = collected(wide, {"finetuning": tuned, "augmented_probe": probed})
    assert set(rows["lambda"]) == {0.2, 0.5}
    published = rows.set_index(["model", "task"])["published"]
    assert published["hybrid_02", "linear probe"] == 61.6 and published["hybrid_02", "fine-tuning"] == 82.292
    assert published["hybrid_05"].isna().all(), "0.5 was not published"


def test_the_command_writes_three_formats(study: Study, tmp_path: Path) -> None:
    write_scores(tmp_path, study)
    output = tmp_path / "out" / "transfer.csv"
    table("transfer", config=ROOT / "config" / "smoke.yaml", tables=tmp_path, output=output, reference=REFERENCE)
    assert sorted(path.suffix for path in output.parent.iterdir()) == [".csv", ".md", ".tex"]
    assert set(pd.read_csv(output)["task"]) == set(scores(study))
    with pytest.raises(UserError, match="there is no table 'transfers'; there are: transfer, hybrid"):
        table("transfers", config=ROOT / "config" / "smoke.yaml", tables=tmp_path, output=output)
