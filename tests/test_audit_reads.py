"""Which tables the audit reads, and what judges again: said by the claims, the study and the code, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit_tables import write_pair
from cl_vs_mim.audit import pitfalls
from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.commands import COMMANDS
from cl_vs_mim.audit.judge import Audit
from cl_vs_mim.audit.reads import tables_of_claims, tables_of_contrasts
from cl_vs_mim.audit.series import Tables
from cl_vs_mim.config import Study, load_study
from cl_vs_mim.core.closure import closure
from cl_vs_mim.core.errors import UserError
from test_figure_register import changed

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = ROOT / "config" / "claims.yaml"
COMMAND = {command.name: command for command in COMMANDS}


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(ROOT / "config" / "smoke.yaml")


@pytest.fixture(scope="module")
def named(study: Study) -> set[str]:
    return set(tables_of_claims(load_claims(CLAIMS), study))


def test_the_tables_are_those_of_the_claims_their_controls_and_other_readings(named: set[str]) -> None:
    assert {"attention/moco_v3_seed0", "attention/untrained_vit_seed0", "grid4/attention/simmim_seed0"} <= named
    assert {"augmented_probe/dino_seed0", "linear_probe/dino_seed0"} <= named, "the second is another reading"
    assert {"decoder_fourier/mae_seed0", "cue_conflict/untrained_beit_seed0"} <= named
    assert not {name for name in named if "hybrid_05" in name}, "no claim is about a mixture of one half"
    assert not {name for name in named if name.startswith(("detection/mae", "grid4/linear_probe", "grid4/fourier/mae"))}


def test_what_a_study_does_not_do_is_not_asked_for(named: set[str], study: Study) -> None:
    lean = study.model_copy(update={"transfer": None})
    lean = changed(lean, "analysis.grids", [])
    fewer = set(tables_of_claims(load_claims(CLAIMS), lean))
    kinds = {name.rpartition("/")[0] for name in named - fewer}
    assert kinds == {"augmented_probe", "attentive_probe", "knn_probe", "finetuning", "detection", "segmentation"} | {
        kind for kind in kinds if kind.startswith("grid4/")
    }


def test_no_table_beyond_the_named_is_opened(named: set[str], study: Study, tmp_path: Path) -> None:
    """Every file that the audit looks for is one that the rule waits for, or one that the study does not make."""
    write_pair(tmp_path)
    opened: set[str] = set()

    class Watched(Tables):
        def _read(self, model, source):
            folder = source.table if source.grid is None else f"grid{source.grid}/{source.table}"
            opened.update(f"{folder}/{model}_seed{seed}" for seed in ([0]))
            return super()._read(model, source)

    file = load_claims(CLAIMS)
    audit = Audit(file, Watched(study, tmp_path), ROOT / "results" / "reference" / "reference_values.csv")
    for claim in file.claims.values():
        audit.judge_claim(claim)
    assert len(opened) > 10
    not_made = {name for name in opened - named if name.startswith("detection/")}
    assert opened - named == not_made == {"detection/mae_seed0"}


def test_the_page_of_pitfalls_names_its_tables(study: Study) -> None:
    names = tables_of_contrasts(pitfalls.contrasts(study).values(), study)
    assert {name.split("/")[0] for name in names} == {
        *("attention", "diversity", "fourier", "cue_conflict", "linear_probe", "augmented_probe", "embedding_purity")
    }
    assert all(name.split("/")[1].startswith(("moco_v3", "simmim", "untrained_")) for name in names)


@pytest.mark.parametrize(
    ("path", "value", "commands"),
    [
        ("figures.bootstrap.level", 0.9, {"claims", "pitfalls"}),
        ("title", "other", {"claims", "pitfalls"}),
        ("figures.spectrum.rank_fraction", 0.5, set()),
        ("analysis.embedding.perplexity", 7.0, {"pitfalls"}),
        ("models.moco_v3.label", "MoCo", {"claims", "pitfalls"}),
        ("models.moco_v3.choices", "other", set()),
        ("models.moco_v3.training.epochs", 9, set()),
        ("expect.result", "other", {"claims"}),
        ("expect.hardware", "other", set()),
    ],
)
def test_the_audit_hangs_on_what_it_says_alone(study: Study, path: str, value: object, commands: set[str]) -> None:
    other = changed(study, path, value)
    found = {name for name, one in COMMAND.items() if one.decides(study, "smoke") != one.decides(other, "smoke")}
    assert found == commands


def test_the_rule_is_part_of_the_code_and_no_figure_is(study: Study) -> None:
    found = {name: closure(one.code(study, "smoke")) for name, one in COMMAND.items()}
    assert "cl_vs_mim.audit.verdict" in found["claims"] & found["report"]
    assert "cl_vs_mim.audit.report" not in found["claims"] and "cl_vs_mim.audit.multiverse" not in found["report"]
    assert not any(".figures.fig0" in module or ".encoder" in module for one in found.values() for module in one)


def test_a_figure_that_there_is_not_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.read_text("utf-8").replace("figure: appendix_tsne", "figure: appendix_tsen"), "utf-8")
    with pytest.raises(
        UserError, match=r"claims.C18.figure: there is no figure 'appendix_tsen'; did you mean 'appendix_tsne'\?"
    ):
        load_claims(path)
