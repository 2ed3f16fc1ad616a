"""The README quotes the tables: its minutes, its curves, its files."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from cl_vs_mim.config import load_study
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.figures.reference import published_curves
from cl_vs_mim.figures.tables import labels
from cl_vs_mim.metrics.yardstick import uniform_attention_distance


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "README.md").read_text()


def test_minutes_are_those_measured_in_a_fresh_clone(root: Path, text: str) -> None:
    steps = pd.read_csv(root / "results" / "bench" / "first_run.csv").set_index("step")["seconds"]
    for command, step in (("make fig3", "fig3"), ("make test", "test")):
        stated = re.search(rf"^\| `{command}` .*\| (\d+), after (\d+) of set-up \|$", text, flags=re.MULTILINE)
        assert stated, f"the README's table has no row for {command}"
        assert [int(stated[1]), int(stated[2])] == [math.ceil(steps[step] / 60), math.ceil(steps["set-up"] / 60)]
    more = re.search(r"^\| `make all` .*\| (\d+) more \|$", text, flags=re.MULTILINE)
    assert more and int(more[1]) == math.ceil(steps["all"] / 60)


def test_the_figures_reading_is_that_of_its_numbers(root: Path, text: str) -> None:
    drawn = pd.read_csv(root / "docs" / "images" / "fig3.csv")
    uniform = drawn[drawn["kind"] == "uniform"]["value"].iloc[0]
    mean = drawn[drawn["kind"] == "mean"].assign(share=lambda rows: rows["value"] / uniform)
    low, high = (mean.groupby("model")["share"].agg(name).map("{:.2f}".format) for name in ("min", "max"))
    words = " ".join(text.split())
    assert f"{low['simmim']} to {high['simmim']} of the distance of uniform attention" in words
    assert low["untrained_beit"] == high["untrained_beit"]
    assert f"its untrained encoder is at {low['untrained_beit']}." in words
    assert f"MoCo v3 lies at {low['moco_v3']} to {high['moco_v3']}" in words
    assert f"({low['untrained_vit']} to {high['untrained_vit']})" in words
    reach = mean[mean["model"] == "moco_v3"].sort_values("depth")["share"].to_numpy()
    half = len(reach) // 2
    assert reach[:half].min() < reach[half:].min() - 0.05, "nearer in early blocks and far again in late ones"
    assert float(high["untrained_vit"]) - float(low["untrained_vit"]) < 0.05, "no such valley"


def test_size_and_number_of_the_encoders_are_as_told(root: Path, text: str) -> None:
    study = load_study(root / "config" / "demo.yaml")
    fewest = min(len(study.models[name].seeds) for name in study.figures.pair)
    assert ("one seed of each" in " ".join(text.split())) == (fewest == 1)
    for name in study.figures.pair:
        encoder = build_encoder(study.architectures[study.models[name].architecture].spec(), seed=0)
        millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
        assert f"encoders of {millions:.1f} million parameters" in " ".join(text.split())


def test_the_figures_numbers_are_of_the_study_and_the_published_ones_of_the_table(root: Path) -> None:
    """What the picture's CSV holds, against the study, the reference table and the formula, and not against itself."""
    drawn = pd.read_csv(root / "docs" / "images" / "fig3.csv")
    study = load_study(root / "config" / "demo.yaml")
    mean = drawn[drawn["kind"] == "mean"]
    commits = set(mean["git_commit"])
    assert len(commits) == 1 and all(re.fullmatch("[0-9a-f]{12}", commit) for commit in commits)  # no tree with changes
    assert set(mean["study"]) == {study.study} and list(dict.fromkeys(mean["model"])) == study.pair()
    for model, rows in mean.groupby("model"):
        (architecture,) = rows["architecture"].unique()
        blocks = range(1, study.architectures[architecture].depth + 1)
        assert rows["depth"].tolist() == list(blocks) and set(rows["label"]) == {labels(study)[model]}
        assert set(rows["images"]) == {study.analysis.images}
    size = study.architectures[study.models[study.figures.pair[0]].architecture]
    uniform = uniform_attention_distance(size.image_size // size.patch_size, size.patch_size)
    assert drawn.loc[drawn["kind"] == "uniform", "value"].tolist() == pytest.approx([uniform])
    published = published_curves(read_table(root / "results/reference/reference_values.csv"), "notebook_fig3")
    faint = drawn[drawn["kind"] == "reference"]
    assert faint["published_value"].tolist() == published["value"].tolist()
    ratio = uniform / uniform_attention_distance(14, 16)
    assert faint["value"].to_numpy() == pytest.approx(published["value"].to_numpy() * ratio)


def test_pages_with_numbers_and_the_figure_are_of_the_study_that_the_rules_document(root: Path) -> None:
    (documented,) = re.findall(
        r'^DOCUMENTED = "(\w+)"', (root / "rules" / "common.smk").read_text(), flags=re.MULTILINE
    )
    for page in ("pitfalls", "findings"):
        head = (root / "docs" / f"{page}.md").read_text().split("\n## ")[0]
        assert f"`{documented}`" in head, page
    assert set(pd.read_csv(root / "docs" / "images" / "fig3.csv")["study"].dropna()) == {documented}


def test_every_file_it_points_to_exists(root: Path, text: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 10
    missing = [link for link in links if not (root / link).exists()]
    assert not missing, missing


def test_the_speeds_page_is_made_from_the_tables(root: Path) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("summary", root / "bench" / "summary.py")
    summary = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(summary)
    assert (root / "docs" / "benchmarks.md").read_text() == summary.page(root / "results" / "bench")


def test_the_differences_between_processors_are_those_measured(root: Path) -> None:
    page = (root / "docs" / "reproducibility.md").read_text()
    found = pd.read_csv(root / "results" / "bench" / "processor.csv")
    tables = found[found["largest_of_range"].notna()].pivot_table("largest_of_range", "what", "way")
    assert tables.shape == (8, 2)
    for table, row in tables.iterrows():
        assert f"| `{table}` | {row['PyTorch without']:.0e} | {row['all without']:.0e} |" in page
    assert set(tables.index[(tables > 1e-5).any(axis=1)]) == {"fourier", "token_spectrum"}
    assert found.loc[found["what"] == "verdicts", "equal"].all()
    drawn = found[found["what"].str.startswith("drawn: ")].set_index(["way", "what"])["equal"]
    assert drawn.filter(like="fig3").all() and drawn["PyTorch without"].all()
    assert not drawn["all without", "drawn: claims.json"], "then say in the page that it is equal, too"
