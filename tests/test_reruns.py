"""A result is made again exactly when something that decides it has changed.

``python tests/test_reruns.py`` prints the table of edits and what each of them runs again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("snakemake")

from bytecode import all_modules, decides, imported_by, reached
from checkout import copy_of_workflow
from cl_vs_mim.cli import commands
from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.core import closure
from plan import WITHOUT_WORK, Plan, counted, edited_module, needed, plan, pretend
from workplace import set_key

ROOT = Path(__file__).resolve().parent.parent
DRAWN = {"figure", "table", "claims", "audit_report"}  # what tables of results are made into
MEASURED = {"extract", "extract_grid", "extract_finetuned", "embedding", "reconstruct", "snapshots"}
TRANSFER = {
    "linear_probe",
    "attentive_probe",
    "knn_probe",
    "robustness",
    "finetuning",
    "augmented_probe",
    "detection",
    "segmentation",
}
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
    "metrics.fourier": ["extract", "extract_grid", "extract_finetuned", "reconstruct", "snapshots", *DRAWN],
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
    found = counted(smoke.with_study(edited(smoke.study, key, value)))
    assert set(found) <= set(allowed), f"runs again: {found}"
    assert set(allowed[:1]) <= set(found)


@pytest.mark.parametrize("method", OBJECTIVES.names())
def test_an_edited_objective_retrains_its_own_encoders_only(smoke: Plan, method: str) -> None:
    """And those of an objective that is made of it, or that reads the codes of its encoder."""
    again = smoke.with_module(f"cl_vs_mim.pretrain.{method}")
    users = {"moco_v3": "hybrid", "simmim": "hybrid", "vq_tokenizer": "beit"}
    retrained = {method, users.get(method)}
    assert {name for name in again if name.startswith("pretrain ")} == {
        f"pretrain {name}_seed{seed}"
        for name, model in smoke.study.models.items()
        for seed in model.seeds
        if model.objective.method in retrained
    }


def test_an_edited_figure_is_drawn_again_alone(smoke: Plan) -> None:
    assert counted(smoke.with_module("cl_vs_mim.figures.fig10")) == {"audit_report": 1, "figure": 1}


def test_another_recipe_of_one_data_set_leaves_the_others(smoke: Plan) -> None:
    again = smoke.with_study(edited(smoke.study, "data.cue_conflict.images", 99))
    assert {name for name in again if name.startswith("compose ")} == {"compose cue_conflict"}
    assert len({name for name in again if name.startswith("robustness ")}) == 4


def test_a_study_writes_into_its_own_folder_only(smoke: Plan) -> None:
    files = {str(file) for job in smoke.jobs.values() if job.rule.name not in WITHOUT_WORK for file in job.output}
    assert files and {file for file in files if not file.startswith("results/smoke/")} == set()


# ------------------------------------------------------------------------------------------------
# Every module of the package
# ------------------------------------------------------------------------------------------------


def worked_by(job: Any, study: Any) -> set[str]:
    """Modules where the work of a job begins: the imports of its command, and what that looks up by a name."""
    verb = re.match(r"cl-vs-mim ([\w-]+)", job.shellcmd or "")
    if not verb:
        return set()
    rule, asked = job.rule.name, job.wildcards_dict
    found = imported_by(commands()[verb[1]].run)
    if "run" in asked:
        model = study.models.get(asked["run"].rpartition("_seed")[0])
        architecture = model.architecture if model else study.controls()[asked["run"].rpartition("_seed")[0]]
        found.add(f"cl_vs_mim.encoder.families.{study.architectures[architecture].family}")
        if rule in ("pretrain", "reconstruct"):
            found.add(f"cl_vs_mim.pretrain.{model.objective.method}")
    if rule == "compose":
        found.add(f"cl_vs_mim.data.{asked['dataset']}")
    if rule == "figure":
        found.add("cl_vs_mim.figures." + re.sub(r"^fig(\d)$", r"fig0\1", asked["figure"]))
    if rule.startswith("extract"):
        written = {name: path.read_text() for name, path in all_modules().items() if ".metrics." in name}
        found |= {name for name, text in written.items() if "\n@metric(" in text}
    return found | {f"cl_vs_mim.transfer.{rule}.{step}" for step in ("train", "evaluate")} & set(all_modules())


@pytest.fixture(scope="module")
def needs(smoke: Plan) -> dict[str, set[str]]:
    """Job -> every module that its result hangs on, found without ``core/closure.py``."""
    return {name: reached(worked_by(job, smoke.study)) for name, job in smoke.jobs.items()}


def wrong(smoke: Plan, needs: dict[str, set[str]], module: str) -> tuple[set[str], set[str]]:
    """The jobs that an edit of a module runs again needlessly, and those that it leaves stale."""
    again = smoke.with_module(module)
    wanted = smoke.dependents({name for name, modules in needs.items() if module in modules})
    return again - wanted, wanted - again


def test_an_edit_of_any_module_runs_again_exactly_what_hangs_on_it(smoke: Plan, needs: dict[str, set[str]]) -> None:
    found = {module: wrong(smoke, needs, module) for module in all_modules()}
    assert {module: jobs for module, jobs in found.items() if jobs != (set(), set())} == {}


@pytest.mark.parametrize(
    ("study", "target", "rules"),
    [
        ("demo", "all", {"import_encoder"}),
        ("smoke", "weights", {"export_weights", "card"}),
        ("paper", "all", {"adopt"}),
    ],
)
def test_so_do_the_rules_that_the_smoke_study_does_not_have(
    tmp_path: Path, study: str, target: str, rules: set[str]
) -> None:
    with plan(copy_of_workflow(tmp_path / "one"), study, target) as whole:
        asked = {name for name, job in whole.jobs.items() if job.rule.name in rules}
        assert {whole.jobs[name].rule.name for name in asked} == rules
        needs = {name: reached(worked_by(job, whole.study)) for name, job in whole.jobs.items()}
        found = {module: wrong(whole, needs, module) for module in all_modules()}
        wrongly = {module: (needless & asked, stale & asked) for module, (needless, stale) in found.items()}
        assert {module: jobs for module, jobs in wrongly.items() if jobs != (set(), set())} == {}


def test_most_modules_decide_something_and_those_that_say_so_nothing(smoke: Plan) -> None:
    idle = {module for module in all_modules() if not smoke.with_module(module)}
    assert {module for module in all_modules() if not decides(module)} <= idle
    assert len(idle) < len(all_modules()) / 3


def test_a_closure_that_misses_an_import_would_be_seen(
    smoke: Plan, needs: dict[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail."""
    missed, real = "cl_vs_mim.data.labels", closure._imports
    monkeypatch.setattr(closure, "_imports", lambda module: [name for name in real(module) if name != missed])
    needless, stale = wrong(smoke, needs, missed)
    assert not needless and {name.split()[0] for name in stale} >= {"robustness", "finetuning", "figure"}


def test_a_rule_that_forgets_its_code_would_be_seen(
    smoke: Plan, needs: dict[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {name: set() if name.startswith("detection ") else digested for name, digested in smoke.digested.items()}
    monkeypatch.setitem(smoke.__dict__, "digested", without)
    _, stale = wrong(smoke, needs, "cl_vs_mim.transfer.detection.recipe")
    assert stale >= {"detection moco_v3_seed0", "detection simmim_seed0"}


# ------------------------------------------------------------------------------------------------
# Something more in a study
# ------------------------------------------------------------------------------------------------


def enlarged(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the workflow in which the smoke study is another."""
    path = copy_of_workflow(folder) / "config" / "smoke.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(study)
    path.write_text("# A comment.\n" + yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return folder


def test_a_clone_elsewhere_with_other_comments_and_layout_runs_nothing(smoke: Plan, tmp_path: Path) -> None:
    folder = enlarged(tmp_path / "elsewhere" / "a clone's copy", lambda study: None)
    with plan(folder, "smoke") as copied:
        assert copied.compared_to(smoke) == set() and len(copied.jobs) == len(smoke.jobs)


def test_a_seed_more_runs_that_seed_and_what_is_drawn_and_judged_of_all(smoke: Plan, tmp_path: Path) -> None:
    folder = enlarged(tmp_path / "clone", lambda study: study["models"]["moco_v3"].update(seeds=[0, 1]))
    with plan(folder, "smoke") as larger:
        again = larger.compared_to(smoke)
        new = {name for name in larger.jobs if "moco_v3_seed1" in name}
    assert {name.split()[0] for name in new} >= {"pretrain", "extract", "linear_probe", "detection"}
    old = {name for name in again - new if name.split()[0] not in WITHOUT_WORK}
    assert new <= again and {name.split()[0] for name in old} == DRAWN


def test_a_hybrid_more_runs_that_hybrid_and_what_is_drawn_and_judged_of_hybrids(smoke: Plan, tmp_path: Path) -> None:
    def add(study: dict[str, Any]) -> None:
        objective = study["models"]["hybrid_05"]["objective"]
        study["models"]["hybrid_02"] = {
            **study["models"]["hybrid_05"],
            "label": "CL + MIM, 0.2",
            "objective": {**objective, "weight": 0.2},
        }

    with plan(enlarged(tmp_path / "clone", add), "smoke") as larger:
        again = larger.compared_to(smoke)
        new = {name for name in larger.jobs if "hybrid_02" in name}
    assert {name.split()[0] for name in new} == {"pretrain", "extract", "finetuning", "augmented_probe"}
    drawn = {"figure fig12", "figure appendix_sizes", "figure training", "table hybrid", "claims", "audit_report"}
    assert new <= again and {name for name in again - new if name.split()[0] not in WITHOUT_WORK} == drawn


# ------------------------------------------------------------------------------------------------
# Snakemake says the same
# ------------------------------------------------------------------------------------------------

HELD = ["figures.attention_maps.head", *SETTINGS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workplace in which Snakemake believes that it has made the smoke study."""
    folder = copy_of_workflow(tmp_path_factory.mktemp("made") / "clone")
    pretend(folder, "smoke")
    return folder


def test_there_is_nothing_to_do_where_all_is_made(made: Path) -> None:
    assert needed(made, "smoke") == set()


@pytest.mark.parametrize("key", HELD)
def test_snakemake_runs_the_same_again_after_an_edited_setting(smoke: Plan, made: Path, key: str) -> None:
    value = SETTINGS[key][0] if key in SETTINGS else 1
    path = made / "config" / "smoke.yaml"
    text = path.read_text(encoding="utf-8")
    study = yaml.safe_load(text)
    set_key(study, key, value)
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    try:
        assert needed(made, "smoke") == smoke.with_study(edited(smoke.study, key, value))
    finally:
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("module", MODULES)
def test_snakemake_runs_the_same_again_after_an_edited_module(smoke: Plan, made: Path, module: str) -> None:
    with edited_module(f"cl_vs_mim.{module}"):
        found = needed(made, "smoke")
    assert found == smoke.with_module(f"cl_vs_mim.{module}")


def test_a_setting_of_one_figure_draws_that_figure_again_alone(smoke: Plan) -> None:
    again = smoke.with_study(edited(smoke.study, "figures.attention_maps.head", 1))
    assert {name for name in again if name.split()[0] not in WITHOUT_WORK} == {"figure fig2", "audit_report"}


def test_another_study_and_back_again_makes_nothing_of_the_first_again(made: Path) -> None:
    """But the links in figures/ and tables/, which are of one study."""
    pretend(made, "demo")
    assert needed(made, "demo") == set()
    again = needed(made, "smoke")
    assert {name.split()[0] for name in again} <= {*WITHOUT_WORK, "audit_report"}


def table(study: str = "smoke") -> None:
    """Print the edits and what they run again, for readers."""
    with plan(ROOT, study) as found:
        total = sum(counted(set(found.jobs)).values())
        print(f"| edit | jobs of {total} | which |\n|---|---|---|")
        value_of = found.study
        rows = {f"`{module}`": found.with_module(f"cl_vs_mim.{module}") for module in [*MODULES, "pretrain.dino"]}
        rows |= {f"`{key}`": found.with_study(edited(value_of, key, value)) for key, (value, _) in SETTINGS.items()}
        for edit, jobs in rows.items():
            rules = counted(jobs)
            said = ", ".join(f"{rule} {count}" for rule, count in rules.items()) or "none"
            print(f"| {edit} | {sum(rules.values())} | {said} |")


if __name__ == "__main__":
    table()
