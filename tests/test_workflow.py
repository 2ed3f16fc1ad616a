"""The workflow planned, not run: lint, dry runs, what is refused before anything starts, and whose figures/ is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("snakemake")

from snakemake.exceptions import MissingRuleException, WorkflowError

from checkout import copy_of_workflow, snakemake
from plan import carry_out, needed, opened

SHOWN = {"shown_study": 1, "show_figures": 1}  # the links in figures/


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_workflow(tmp_path_factory.mktemp("clone") / "checkout")


def rules(jobs: set[str]) -> Counter[str]:
    """Number of jobs by rule."""
    return Counter(job.split()[0] for job in jobs)


def test_lint_is_clean(checkout: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint", "--config", "study=smoke"],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_figure_3_takes_only_what_it_needs(checkout: Path) -> None:
    jobs = rules(needed(checkout, "smoke", "figures/fig3.pdf"))
    assert jobs == {"compose": 1, "pretrain": 2, "extract": 4, "figure": 1, "check": 1} | SHOWN


def test_everything_is_planned(checkout: Path) -> None:
    jobs = rules(needed(checkout, "demo"))
    assert jobs["compose"] == 3
    assert jobs["figure"] >= 13


def test_the_paper_study_reads_folders_instead_of_composing(checkout: Path) -> None:
    jobs = rules(needed(checkout, "paper"))
    assert jobs["adopt"] == 3 and "compose" not in jobs
    assert jobs["pretrain"] == 13 and jobs["detection"] == jobs["segmentation"] == 2 + 2 * 5  # untrained seeds


@contextmanager
def replaced(path: Path, old: str, new: str) -> Iterator[None]:
    """A file with a mistake in it."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def test_a_misspelt_key_stops_before_the_dag(checkout: Path) -> None:
    with replaced(checkout / "config" / "smoke.yaml", "temperature:", "temprature:"):
        result = snakemake(checkout, "-n", "figures/fig3.pdf")
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "models.moco_v3.objective.temprature: unknown key; did you mean 'temperature'?" in output
    assert "Traceback" not in output


def test_an_unknown_study_lists_the_known_ones(checkout: Path) -> None:
    with pytest.raises(WorkflowError, match=r"config/dmeo\.yaml does not exist; studies at hand: demo"):
        needed(checkout, "dmeo")


def test_a_misspelt_option_is_refused(checkout: Path) -> None:
    with pytest.raises(WorkflowError, match="did you mean 'study'"), opened(checkout, {"studdy": "smoke"}):
        pass


def test_a_faulty_claim_stops_before_the_dag(checkout: Path) -> None:
    faulty = replaced(checkout / "config" / "claims.yaml", "strength: strong", "strength: huge")
    with faulty, pytest.raises(WorkflowError, match=r"claims\.C1\.strength"):
        needed(checkout, "smoke", "audit")


@pytest.mark.parametrize("target", ["docs/pitfalls.md", "docs/images/fig3.png"])
def test_another_study_may_not_write_into_the_documentation(checkout: Path, target: str) -> None:
    with pytest.raises(MissingRuleException):
        needed(checkout, "smoke", target)
    assert needed(checkout, "demo", target) & {"pitfalls_page", "readme_figure"}


def test_a_plan_is_two_lines_a_job(checkout: Path) -> None:
    result = snakemake(checkout, "-n", "--workflow-profile", "profiles/default")
    said = (result.stdout + result.stderr).splitlines()
    jobs = [line for line in said if re.match(r"Job \d+: ", line)]
    assert len(jobs) > 100 and len(said) < 2 * len(jobs) + 30
    assert len(jobs) == len(needed(checkout, "smoke")), "what other tests ask of Snakemake in this process is the same"
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
    carry_out(folder, study, *(f"figures/{figure}.pdf" for figure in figures), rules=set(SHOWN))


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


@pytest.mark.parametrize("target", ["figures/fig13.pdf", "figures/fig13.png", "figures/fg3.csv"])
def test_an_unknown_figure_lists_the_known_ones(checkout: Path, target: str) -> None:
    said = r"there is no figure 'f.*' in study 'smoke'; did you mean 'fig\d+'\?; there are: .*fig3, "
    with pytest.raises(WorkflowError, match=said):
        needed(checkout, "smoke", target)
