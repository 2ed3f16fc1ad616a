"""The real workflow at its smallest scale: a whole run, a rerun that does nothing, the report and the audit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytest.importorskip("snakemake")

from checkout import copy_of_workflow, jobs_of, snakemake
from cl_vs_mim.encoder.checkpoints import load_encoder
from preloaded import preloaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout after a whole run of the smoke study.

    Its commands are forked from a process that has imported the libraries: started by themselves, they would spend most
    of their time on importing them, and this run is the longest part of all tests. What they do is the same.
    :mod:`test_workflow_killed` and the last test below have Snakemake start the console script.
    """
    checkout = copy_of_workflow(tmp_path_factory.mktemp("clone") / "checkout")
    claims = checkout / "config" / "claims.yaml"  # how often its rules err is asked by test_audit_simulation
    claims.write_text(claims.read_text().replace("replicates: 2000", "replicates: 50"))
    assert "replicates: 50" in claims.read_text()
    with preloaded(tmp_path_factory.mktemp("preloaded")) as variables:
        result = snakemake(checkout, variables=variables)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return checkout


def test_everything_is_built_and_logged(finished: Path) -> None:
    figures = sorted(path.stem for path in (finished / "figures").glob("*.pdf"))
    assert {f"fig{number}" for number in range(2, 12)} <= set(figures)
    for figure in figures:
        assert (finished / "figures" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
        pixels = np.asarray(Image.open(finished / "figures" / f"{figure}.png").convert("L"))
        assert pixels.min() < 100 and 0.005 < (pixels < 250).mean() < 0.99, f"{figure}: ink on paper"
        assert len(pd.read_csv(finished / "figures" / f"{figure}.csv")) > 0
    for run in ("moco_v3_seed0", "simmim_seed0"):
        encoder = load_encoder(finished / "results/smoke/encoders" / f"{run}.safetensors", "native")
        assert (encoder.spec.width, encoder.spec.depth) == (64, 3)
        log = pd.read_csv(finished / "results/smoke/tables/training" / f"{run}.csv")
        assert log["step"].tolist() == list(range(1, len(log) + 1)) and np.isfinite(log["loss"]).all()
    logs = list((finished / "results/smoke/logs").rglob("*.log"))
    benchmarks = list((finished / "results/smoke/benchmarks").rglob("*.tsv"))
    planned = snakemake(finished, "-n", "--forceall")
    jobs = jobs_of(planned.stdout + planned.stderr)
    shown = jobs["shown_study"] + jobs["show_figures"] + jobs["show_tables"]  # links, too short to be measured
    assert len(logs) == len(benchmarks) + shown == jobs["total"] - jobs["all"] > len(figures)
    assert not list(finished.rglob("*.part*")), "half-written files stay behind"


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


def test_a_second_run_has_nothing_to_do(finished: Path) -> None:
    result = snakemake(finished, "-n")
    assert "Nothing to be done" in result.stdout + result.stderr


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


def test_the_report_is_written(finished: Path) -> None:
    result = snakemake(finished, "--report", "report.zip")
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(finished / "report.zip") as report:
        assert report.testzip() is None
        held = {Path(name).name for name in report.namelist()}
    figures = {path.name for path in (finished / "figures").glob("*.pdf")}
    assert figures and figures <= held


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
