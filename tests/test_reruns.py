"""A result is made again exactly when something that decides it has changed.

``python tests/test_reruns.py`` prints the table of edits and what each of them runs again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("snakemake")

from checkout import copy_of_workflow
from plan import WITHOUT_WORK, Plan, counted, plan

ROOT = Path(__file__).resolve().parent.parent
DRAWN = {"figure", "table", "claims", "audit_report"}  # what tables of results are made into
MEASURED = {"extract", "extract_grid", "extract_finetuned", "embedding", "reconstruct"}
TRANSFER = {"linear_probe", "robustness", "finetuning", "augmented_probe", "detection", "segmentation"}
SCENES = {"check", "detection", "segmentation"} | DRAWN

# Module -> the rules that run again when it does something else, at most; the first of them certainly.
MODULES = {
    "core.errors": [],
    "core.progress": [],
    "core.registry": [],
    "cli": [],
    "data.commands": [],
    "config.study": [],
    "data.checks": ["check"],
    "data.scenes": ["compose", *SCENES],
    "data.cue_conflict": ["compose", "robustness", *DRAWN],
    "metrics.fourier": ["extract", "extract_grid", "extract_finetuned", "reconstruct", *DRAWN],
    "figures.fig10": ["figure", "audit_report"],
    "audit.judge": ["claims", "audit_report"],
}
# Key of the study -> another value, and the rules that run again.
SETTINGS = {
    "title": ("another", ["figure", "claims", "audit_report", "table"]),
    "compute.loader_workers": (1, []),
    "models.moco_v3.label": ("another", ["figure", "claims", "audit_report", "table"]),
    "data.cue_conflict.images": (99, ["compose", "robustness", *DRAWN]),
    "data.scenes.train": (99, ["compose", *SCENES]),
    "models.simmim.objective.mask_ratio": (0.3, ["pretrain", *MEASURED, *TRANSFER, *DRAWN]),
}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    with plan(copy_of_workflow(tmp_path_factory.mktemp("clone") / "one"), "smoke") as found:
        yield found


def edited(section: Any, key: str, value: Any) -> Any:
    """A study with another value at a dotted key."""
    name, _, rest = key.partition(".")
    held = section[name] if isinstance(section, dict) else getattr(section, name)
    new = edited(held, rest, value) if rest else value
    return {**section, name: new} if isinstance(section, dict) else section.model_copy(update={name: new})


@pytest.mark.parametrize("module", MODULES)
def test_an_edited_module_runs_again_what_hangs_on_it(smoke: Plan, module: str) -> None:
    found, allowed = counted(smoke.with_module(f"cl_vs_mim.{module}")), MODULES[module]
    assert set(found) <= set(allowed), f"runs again: {found}"
    assert set(allowed[:1]) <= set(found)


@pytest.mark.parametrize("key", SETTINGS)
def test_an_edited_setting_runs_again_what_hangs_on_it(smoke: Plan, key: str) -> None:
    value, allowed = SETTINGS[key]
    found = counted(smoke.with_study(edited(smoke.workflow.globals["STUDY"], key, value)))
    assert set(found) <= set(allowed), f"runs again: {found}"
    assert set(allowed[:1]) <= set(found)


@pytest.mark.parametrize("method", ["dino", "simmim", "mae", "beit", "supervised", "hybrid"])
def test_an_edited_objective_retrains_its_own_encoders_only(smoke: Plan, method: str) -> None:
    again = smoke.with_module(f"cl_vs_mim.pretrain.{method}")
    trained = {name.split()[1] for name in again if name.startswith("pretrain ")}
    models = smoke.workflow.globals["STUDY"].models
    own = {
        f"{name}_seed{seed}"
        for name, model in models.items()
        for seed in model.seeds
        if model.objective.method == method
    }
    users = {"hybrid_05_seed0"} if method in ("simmim", "moco_v3") else set()  # a hybrid is made of both
    assert own <= trained <= own | users


def test_an_edited_figure_is_drawn_again_alone(smoke: Plan) -> None:
    assert counted(smoke.with_module("cl_vs_mim.figures.fig10")) == {"audit_report": 1, "figure": 1}


def test_another_recipe_of_one_data_set_leaves_the_others(smoke: Plan) -> None:
    study = smoke.workflow.globals["STUDY"]
    again = smoke.with_study(edited(study, "data.cue_conflict.images", 99))
    assert {name for name in again if name.startswith("compose ")} == {"compose cue_conflict"}
    assert len({name for name in again if name.startswith("robustness ")}) == 4


def test_a_study_writes_into_its_own_folder_only(smoke: Plan) -> None:
    files = {str(file) for job in smoke.jobs.values() if job.rule.name not in WITHOUT_WORK for file in job.output}
    assert files and {file for file in files if not file.startswith("results/smoke/")} == set()


def test_a_clone_elsewhere_with_a_seed_more_and_a_comment_runs_the_new_seed_only(smoke: Plan, tmp_path: Path) -> None:
    """And what is drawn and judged of all seeds."""
    folder = copy_of_workflow(tmp_path / "elsewhere" / "a clone's copy")
    path = folder / "config" / "smoke.yaml"
    before = path.read_text(encoding="utf-8")
    head, found, rest = before.partition("  moco_v3:\n")
    assert found and "seeds: [0]" in rest
    path.write_text(f"# A comment.\n{head}{found}{rest.replace('seeds: [0]', 'seeds: [0, 1]', 1)}", encoding="utf-8")
    with plan(folder, "smoke") as larger:
        again = larger.compared_to(smoke)
    work = {name for name in again if name.split()[0] not in WITHOUT_WORK}
    assert "pretrain moco_v3_seed1" in work
    old = {name for name in work if "moco_v3_seed1" not in name}
    assert {name.split()[0] for name in old} <= DRAWN


def table(study: str = "smoke") -> None:
    """Print the edits and what they run again, for readers."""
    with plan(ROOT, study) as found:
        total = sum(counted(set(found.jobs)).values())
        print(f"| edit | jobs of {total} | which |\n|---|---|---|")
        value_of = found.workflow.globals["STUDY"]
        rows = {f"`{module}`": found.with_module(f"cl_vs_mim.{module}") for module in [*MODULES, "pretrain.dino"]}
        rows |= {f"`{key}`": found.with_study(edited(value_of, key, value)) for key, (value, _) in SETTINGS.items()}
        for edit, jobs in rows.items():
            rules = counted(jobs)
            said = ", ".join(f"{rule} {count}" for rule, count in rules.items()) or "none"
            print(f"| {edit} | {sum(rules.values())} | {said} |")


if __name__ == "__main__":
    table()
