"""The real workflow at its smallest scale: lint, dry run, a whole run, a rerun that does nothing, the report."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pandas as pd
import pytest

pytest.importorskip("snakemake")


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the workflow reads, so that results land in a temporary folder."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("rules", "report", "config", "data", "profiles"):
        shutil.copytree(root / name, folder / name)
    shutil.copytree(root / "results" / "reference", folder / "results" / "reference")
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(root / name, folder / name)
    return folder


def snakemake(checkout: Path, *arguments: str, study: str = "smoke") -> subprocess.CompletedProcess[str]:
    """Everything that Snakemake has to say, unless another profile is asked for."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    profile = [] if "--workflow-profile" in arguments else ["--workflow-profile", "none"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *profile, *arguments, "--config", f"study={study}"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )


SHOWN = {"shown_study": 1, "show_figures": 1}  # the links in figures/


def jobs_of(output: str) -> dict[str, int]:
    """Counts by rule from the job table that Snakemake prints."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE)}


def test_lint_is_clean(checkout: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint", "--config", "study=smoke"],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_dry_run_of_figure_3_holds_only_what_it_needs(checkout: Path) -> None:
    result = snakemake(checkout, "-n", "figures/fig3.pdf")
    assert result.returncode == 0, result.stderr
    jobs = jobs_of(result.stdout + result.stderr)
    assert jobs == {"compose": 1, "pretrain": 2, "extract": 4, "figure": 1, "check": 1, "total": 11} | SHOWN


def test_dry_run_of_everything(checkout: Path) -> None:
    result = snakemake(checkout, "-n", study="demo")
    assert result.returncode == 0, result.stderr
    jobs = jobs_of(result.stdout + result.stderr)
    assert jobs["compose"] == 3
    assert jobs["figure"] >= 13


def test_dry_run_of_the_paper_study_reads_folders_instead_of_composing(checkout: Path) -> None:
    result = snakemake(checkout, "-n", study="paper")
    assert result.returncode == 0, result.stderr
    jobs = jobs_of(result.stdout + result.stderr)
    assert jobs["adopt"] == 3 and "compose" not in jobs
    assert jobs["pretrain"] == 13 and jobs["detection"] == jobs["segmentation"] == 4


def test_a_misspelt_key_stops_before_the_dag(checkout: Path) -> None:
    path = checkout / "config" / "smoke.yaml"
    text = path.read_text()
    path.write_text(text.replace("temperature:", "temprature:"))
    try:
        result = snakemake(checkout, "-n", "figures/fig3.pdf")
    finally:
        path.write_text(text)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "models.moco_v3.objective.temprature: unknown key; did you mean 'temperature'?" in output
    assert "Traceback" not in output


def test_an_unknown_study_lists_the_known_ones(checkout: Path) -> None:
    result = snakemake(checkout, "-n", study="dmeo")
    assert result.returncode != 0
    assert "config/dmeo.yaml does not exist; studies at hand: demo" in result.stdout + result.stderr


def test_a_misspelt_option_is_refused(checkout: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--config", "studdy=smoke"],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    said = result.stdout + result.stderr
    assert result.returncode != 0 and "did you mean 'study'?" in said and "Traceback" not in said


@pytest.mark.parametrize("target", ["docs/pitfalls.md", "docs/images/fig3.png"])
def test_another_study_may_not_write_into_the_documentation(checkout: Path, target: str) -> None:
    result = snakemake(checkout, "-n", target)
    assert result.returncode != 0 and "MissingRuleException" in result.stdout + result.stderr
    assert snakemake(checkout, "-n", target, study="demo").returncode == 0


def test_a_plan_is_two_lines_a_job(checkout: Path) -> None:
    result = snakemake(checkout, "-n", "--workflow-profile", "profiles/default")
    said = (result.stdout + result.stderr).splitlines()
    jobs = [line for line in said if re.match(r"Job \d+: ", line)]
    assert len(jobs) > 100 and len(said) < 2 * len(jobs) + 30
    assert any(re.fullmatch(r"Job \d+: pretrain run=moco_v3_seed0", line) for line in jobs)


# ------------------------------------------------------------------------------------------------
# figures/ is of one study
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def two_studies(checkout: Path, tmp_path: Path) -> Path:
    """A workplace in which two studies have all their figures, as far as Snakemake can tell."""
    folder = tmp_path / "two"
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".snakemake"))
    for study in ("smoke", "demo"):
        for figure in ("fig3", "fig4"):
            for kind in ("pdf", "png", "csv"):
                path = folder / "results" / study / "figures" / f"{figure}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{figure} of {study}")
    return folder


def show(folder: Path, study: str, *figures: str) -> None:
    """Ask for figures of a study; that they are there is enough, whatever they are made from."""
    targets = [f"figures/{figure}.pdf" for figure in figures]
    result = snakemake(folder, *targets, "--allowed-rules", "shown_study", "show_figures", study=study)
    assert result.returncode == 0, result.stdout + result.stderr


def shown(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in sorted((folder / "figures").iterdir())}


def test_figures_are_of_the_study_asked_for_last(two_studies: Path) -> None:
    def files(study: str, *figures: str) -> dict[str, str]:
        return {f"{figure}.{kind}": f"{figure} of {study}" for figure in figures for kind in ("pdf", "png", "csv")}

    show(two_studies, "smoke", "fig3", "fig4")
    assert shown(two_studies) == {"STUDY": "smoke"} | files("smoke", "fig3", "fig4")
    show(two_studies, "demo", "fig3")
    assert shown(two_studies) == {"STUDY": "demo"} | files("demo", "fig3"), "Figure 4 of the other study is gone"
    show(two_studies, "smoke", "fig4")
    assert shown(two_studies) == {"STUDY": "smoke"} | files("smoke", "fig4")


def test_clean_results_takes_one_study_with_its_pictures(root: Path, two_studies: Path) -> None:
    show(two_studies, "demo", "fig3")
    shutil.copy(root / "Makefile", two_studies)
    clean = ["make", "--silent", "clean-results"]
    environment = {name: value for name, value in os.environ.items() if name not in ("STUDY", "MAKEFLAGS")}
    subprocess.run([*clean, "STUDY=smoke"], cwd=two_studies, env=environment, check=True)
    assert not (two_studies / "results/smoke").exists() and (two_studies / "figures/fig3.pdf").exists()
    subprocess.run([*clean, "STUDY=demo"], cwd=two_studies, env=environment, check=True)
    assert not (two_studies / "results/demo").exists() and not (two_studies / "figures").exists()
    assert (two_studies / "results/reference").exists()


@pytest.fixture(scope="module")
def finished(checkout: Path) -> Path:
    """The checkout after a whole run of the smoke study."""
    result = snakemake(checkout)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return checkout


@pytest.mark.slow
def test_everything_is_built_and_logged(finished: Path) -> None:
    figures = sorted(path.stem for path in (finished / "figures").glob("*.pdf"))
    assert {f"fig{number}" for number in range(2, 12)} <= set(figures)
    for figure in figures:
        assert (finished / "figures" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert (finished / "figures" / f"{figure}.png").stat().st_size > 10_000
        assert len(pd.read_csv(finished / "figures" / f"{figure}.csv")) > 0
    for run in ("moco_v3_seed0", "simmim_seed0"):
        assert (finished / "results/smoke/encoders" / f"{run}.safetensors").stat().st_size > 0
        assert len(pd.read_csv(finished / "results/smoke/tables/training" / f"{run}.csv")) > 1
    logs = list((finished / "results/smoke/logs").rglob("*.log"))
    benchmarks = list((finished / "results/smoke/benchmarks").rglob("*.tsv"))
    planned = snakemake(finished, "-n", "--forceall")
    jobs = jobs_of(planned.stdout + planned.stderr)
    shown = jobs["shown_study"] + jobs["show_figures"] + jobs["show_tables"]  # links, too short to be measured
    assert len(logs) == len(benchmarks) + shown == jobs["total"] - jobs["all"] > len(figures)
    assert not list(finished.rglob("*.part*")), "half-written files stay behind"


@pytest.mark.slow
def test_tables_hold_every_image_head_and_block_of_every_encoder(finished: Path) -> None:
    for run in ("moco_v3_seed0", "simmim_seed0", "untrained_vit_seed0", "untrained_beit_seed0"):
        table = pd.read_parquet(finished / "results/smoke/tables/attention" / f"{run}.parquet")
        assert table.groupby("metric", observed=True).size().to_dict() == {
            "attention_distance": 32 * 3 * 4,
            "attention_entropy": 32 * 3 * 4,
            "nmi": 32 * 3 * 4,
            "query_similarity": 32 * 3 * 4,
        }
        assert not table.duplicated(["image", "depth", "head", "metric"]).any()
        assert table["value"].notna().all()
        assert table["study"].unique().tolist() == ["smoke"]
        assert table["device"].notna().all()


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(finished: Path) -> None:
    result = snakemake(finished, "-n")
    assert "Nothing to be done" in result.stdout + result.stderr


@pytest.mark.slow
def test_a_changed_recipe_retrains_that_model_only(finished: Path) -> None:
    path = finished / "config" / "smoke.yaml"
    text = path.read_text()
    path.write_text(text.replace("mask_ratio: 0.6", "mask_ratio: 0.5"))
    try:
        result = snakemake(finished, "-n", "figures/fig3.pdf")
    finally:
        path.write_text(text)
    jobs = jobs_of(result.stdout + result.stderr)
    assert jobs == {"pretrain": 1, "extract": 1, "figure": 1, "show_figures": 1, "total": 4}


@pytest.mark.slow
def test_the_report_is_written(finished: Path) -> None:
    result = snakemake(finished, "--report", "report.zip")
    assert result.returncode == 0, result.stderr
    assert (finished / "report.zip").stat().st_size > 100_000


@pytest.mark.slow
def test_the_audit_and_the_page_of_pitfalls_are_written(finished: Path) -> None:
    found = json.loads((finished / "results/smoke/claims.json").read_text())
    jsonschema.validate(found, json.loads((finished / "results/smoke/claims.schema.json").read_text()))
    tested = [claim for claim in found["claims"].values() if claim["contrasts"]]
    assert len(tested) > 15, "most claims can be asked of the smallest study"
    assert any("grid4/" in name for name in found["tables"]), "other grids are in the multiverse"
    assert all(claim["verdict"] != "supported" for claim in tested), "one seed is not enough"
    page = (finished / "results/smoke/report.html").read_text()
    assert page.count('<img class="figure"') == len(found["claims"]) and "This is a reduced study" in page
    written_to = finished / "results" / "smoke" / "pitfalls.md"
    options = ["--config", "config/smoke.yaml", "--tables", "results/smoke/tables", "--output", str(written_to)]
    subprocess.run([sys.executable, "-m", "cl_vs_mim", "pitfalls", *options], cwd=finished, check=True)
    written = written_to.read_text()
    assert "`smoke` study" in written and "nan" not in written
    committed = Path(__file__).parents[1] / "docs" / "pitfalls.md"
    headings = [re.findall(r"^##? .*", text, flags=re.MULTILINE) for text in (written, committed.read_text())]
    assert headings[0] == headings[1], "docs/pitfalls.md is of another template; write it again"


@pytest.mark.slow
def test_a_command_that_fails_fails_its_rule_with_its_message(finished: Path) -> None:
    """Not only because its output is missing: the exit status goes through `| tee`."""
    path = finished / "results" / "smoke" / "figures" / "fig3.png"
    picture = path.read_bytes()
    path.write_bytes(b"no picture")
    try:
        result = snakemake(finished, "audit")
    finally:
        path.write_bytes(picture)
    said = result.stdout + result.stderr
    assert result.returncode != 0 and "fig3.png cannot be read" in said and "MissingOutputException" not in said


def test_a_faulty_claim_stops_before_the_dag(checkout: Path) -> None:
    path = checkout / "config" / "claims.yaml"
    text = path.read_text()
    path.write_text(text.replace("strength: strong", "strength: huge", 1))
    try:
        result = snakemake(checkout, "-n", "audit")
    finally:
        path.write_text(text)
    said = result.stdout + result.stderr
    assert result.returncode != 0 and "claims.C1.strength" in said and "Traceback" not in said
