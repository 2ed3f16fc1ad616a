"""Transfer tasks by their register: keys of the study, what decides a result, what retrains, a task of one's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cl_vs_mim.config import Study, load_study
from cl_vs_mim.config.encoders import analysed_runs, pair_runs
from cl_vs_mim.config.tasks import (
    Task,
    code_of,
    decides,
    decides_training_of,
    scores,
    study_tasks,
    task_runs,
    training_code_of,
)
from cl_vs_mim.config.transfer import TASKS
from cl_vs_mim.core.closure import closure
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.transfer.commands import COMMANDS
from test_linear_probe import write_data

NAMES = [
    "attentive_probe",
    "augmented_probe",
    "detection",
    "finetuning",
    "knn_probe",
    "linear_probe",
    "robustness",
    "segmentation",
]
RUN = "moco_v3_seed0"


@pytest.fixture(scope="module")
def raw(root: Path) -> dict:
    return yaml.safe_load((root / "config" / "smoke.yaml").read_text())


def changed(raw: dict, folder: Path, key: str, value: object) -> Study:
    """The smoke study with one value changed, by its dotted key."""
    study = yaml.safe_load(yaml.safe_dump(raw))
    *way, last = key.split(".")
    section = study
    for part in way:
        section = section[part]
    section[last] = value
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump(study))
    return load_study(path)


# ------------------------------------------------------------------------------------------------
# The register
# ------------------------------------------------------------------------------------------------


def test_the_register_has_all_tasks_and_each_writes_what_it_says(raw, tmp_path) -> None:
    study = changed(raw, tmp_path, "title", "x")
    tasks = study_tasks(study)
    assert sorted(tasks) == TASKS.names() == NAMES
    for name, task in tasks.items():
        assert task.name == name and task.tables
        assert {score.table for score in task.scores} <= set(task.tables)
        assert task.verb in {command.name for command in COMMANDS}
    assert task_runs(tasks["detection"], study) == pair_runs(study)
    assert set(task_runs(tasks["finetuning"], study)) > set(analysed_runs(study))
    assert not set(task_runs(tasks["linear_probe"], study)) & {"hybrid_05_seed0", "tokenizer_seed0"}


def test_scores_are_in_the_order_of_their_columns(raw, tmp_path) -> None:
    study = changed(raw, tmp_path, "title", "x")
    assert list(scores(study)) == ["linear probe", "fine-tuning", "box AP", "mask AP", "mIoU"]
    without = changed(raw, tmp_path, "transfer", {"detection": raw["transfer"]["detection"]})
    assert list(scores(without)) == ["box AP", "mask AP"]
    assert "finetuning" not in study_tasks(without)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("transfer.finetunig", {}, r"transfer\.finetunig: unknown key; did you mean 'finetuning'\?"),
        (
            "transfer.detection.imagesize",
            3,
            r"transfer\.detection\.imagesize: unknown key; did you mean 'image_size'\?",
        ),
        ("transfer.augmented_probe.init_std", -1, r"transfer\.augmented_probe\.init_std: .*greater than 0"),
        ("transfer.segmentation.training.batch_size", 1, r"transfer\.segmentation.*BatchNorm needs two images"),
        ("transfer", 3, r"transfer: .*dictionary"),
    ],
)
def test_keys_of_tasks_are_checked_like_all_others(raw, tmp_path, key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        changed(raw, tmp_path, key, value)


def test_the_commands_are_known_before_torch_is(root: Path) -> None:
    code = (
        "import sys, pathlib; from cl_vs_mim.transfer.commands import COMMANDS; from cl_vs_mim.config.tasks import *;"
        "from cl_vs_mim.config.transfer import TASKS; [TASKS[name] for name in TASKS.names()];"
        "print([name for name in ('torch', 'timm', 'mmseg', 'detectron2', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------
# What decides a result
# ------------------------------------------------------------------------------------------------

# Key, another value, and the tasks whose tables of moco_v3_seed0 it decides
DECIDED = [
    ("models.moco_v3.label", "another", set()),
    ("models.moco_v3.choices", "another", set()),
    ("models.moco_v3.seeds", [0, 1], set()),
    ("models.mae.training.epochs", 3, set()),
    ("figures.bootstrap.resamples", 7, set()),
    ("analysis.spectrum.resamples", 7, set()),
    ("transfer.finetuning.choices", "another", set()),
    ("transfer.finetuning.training.log_steps", 2, set()),
    ("transfer.detection.checkpoint_iterations", 2, set()),
    ("models.moco_v3.training.epochs", 3, set(NAMES)),
    ("architectures.vit.heads", 2, set(NAMES)),
    ("data.seed", 7, set(NAMES)),
    ("data.cue_conflict.images", 35, {"robustness"}),
    ("data.scenes.train", 13, {"detection", "segmentation"}),
    ("data.objects.val_per_identity", 2, set(NAMES)),  # the encoder is trained on the objects
    (
        "analysis.crop_fraction",
        0.9,
        {"linear_probe", "robustness", "finetuning", "augmented_probe", "attentive_probe", "knn_probe"},
    ),
    ("analysis.seed", 1, {"robustness"}),
    ("analysis.probe.epochs", 3, {"linear_probe", "robustness"}),
    ("analysis.robustness.noise.rms", 0.2, {"robustness"}),
    ("transfer.finetuning.layer_decay", 0.5, {"finetuning"}),
    ("transfer.augmented_probe.training.base_lr", 0.2, {"augmented_probe"}),
    ("transfer.knn_probe.temperature", 0.1, {"knn_probe"}),
    ("transfer.detection.least_score", 0.1, {"detection"}),
    ("transfer.segmentation.slide_stride", 48, {"segmentation"}),
]


@pytest.mark.parametrize(("key", "value", "expected"), DECIDED, ids=[key for key, *_ in DECIDED])
def test_a_setting_decides_the_tables_that_hang_on_it_and_no_others(raw, tmp_path, key, value, expected) -> None:
    before, after = changed(raw, tmp_path, "title", "x"), changed(raw, tmp_path, key, value)
    found = {name for name in NAMES if decides(TASKS[name], before, RUN) != decides(TASKS[name], after, RUN)}
    assert found == expected


@pytest.mark.parametrize(
    ("name", "key", "value", "again"),
    [
        ("finetuning", "analysis.crop_fraction", 0.9, False),
        ("finetuning", "transfer.finetuning.training.base_lr", 1.0, True),
        ("detection", "transfer.detection.least_score", 0.1, False),
        ("detection", "transfer.detection.draw_images", 3, False),
        ("detection", "transfer.detection.regions", 17, True),
        ("segmentation", "transfer.segmentation.slide_stride", 48, False),
        ("segmentation", "transfer.segmentation.dropout", 0.2, True),
    ],
)
def test_what_decides_the_evaluation_alone_does_not_train_again(raw, tmp_path, name, key, value, again) -> None:
    before, after = changed(raw, tmp_path, "title", "x"), changed(raw, tmp_path, key, value)
    differ = decides_training_of(TASKS[name], before) != decides_training_of(TASKS[name], after)
    assert differ == again
    assert decides(TASKS[name], before, RUN) != decides(TASKS[name], after, RUN)


# A module -> the tasks whose tables, and whose trainings, its code decides
CODE = {
    "cl_vs_mim.data.labels": ({"finetuning", "augmented_probe", "linear_probe", "robustness"}, {"finetuning"}),
    "cl_vs_mim.transfer.linear_probe.selection": ({"linear_probe", "robustness"}, set()),
    "cl_vs_mim.transfer.splits": ({"finetuning", "augmented_probe", "linear_probe"}, {"finetuning"}),
    "cl_vs_mim.transfer.predictions": ({"finetuning", "augmented_probe"}, set()),
    "cl_vs_mim.transfer.dense": ({"detection", "segmentation"}, {"detection", "segmentation"}),
    "cl_vs_mim.pretrain.trainer": (set(NAMES), {"finetuning", "segmentation"}),
    "cl_vs_mim.encoder.families.vit": (set(NAMES), {"finetuning", "detection", "segmentation"}),  # resampling too
    "cl_vs_mim.encoder.families.beit": (set(), set()),
    "cl_vs_mim.pretrain.loop": (set(NAMES), set()),
    "cl_vs_mim.pretrain.dino": (set(), set()),
    "cl_vs_mim.pretrain.beit": (set(), set()),
    "cl_vs_mim.analysis.extract": (set(), set()),
    "cl_vs_mim.transfer.detection.draw": ({"detection"}, set()),
}


@pytest.mark.parametrize("module", CODE)
def test_code_decides_what_imports_it(raw, tmp_path, module: str) -> None:
    study = changed(raw, tmp_path, "title", "x")
    tables, trainings = CODE[module]
    trained = ("finetuning", "detection", "segmentation")
    assert {name for name in NAMES if module in closure(code_of(TASKS[name], study, RUN))} >= tables
    if not tables:
        assert not [name for name in NAMES if module in closure(code_of(TASKS[name], study, RUN))]
    assert {name for name in trained if module in closure(training_code_of(TASKS[name], "vit"))} == trainings


# ------------------------------------------------------------------------------------------------
# A task of one's own, as docs/extending.md has it
# ------------------------------------------------------------------------------------------------


def blocks(page: Path, section: str) -> dict[str, str]:
    """The fenced blocks of a section, by the file name that the line before each gives."""
    text = page.read_text(encoding="utf-8").split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"`([^`\n]+)`:?\n\n```\w*\n(.*?)```", text, re.DOTALL))


def test_the_task_of_the_documentation_works_from_an_empty_directory(root: Path, raw: dict, tmp_path: Path) -> None:
    example = blocks(root / "docs" / "extending.md", "A transfer task")
    assert set(example) == {"nearest_class.py", "pyproject.toml", "smoke.yaml"}
    place = tmp_path / "mine"
    place.mkdir()
    (place / "nearest_class.py").write_text(example["nearest_class.py"])
    # what `pip install .` makes of the pyproject.toml: the group of entry points
    group, entry = re.search(r'\[project\.entry-points\."(.+)"\]\n(.+)', example["pyproject.toml"]).groups()
    (place / "nearest_class-1.dist-info").mkdir()
    (place / "nearest_class-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nearest-class\nVersion: 1\n"
    )
    name, module = (part.strip().strip('"') for part in entry.split("="))
    (place / "nearest_class-1.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    study = raw | {"transfer": raw["transfer"] | yaml.safe_load(example["smoke.yaml"])["transfer"]}
    (place / "smoke.yaml").write_text(yaml.safe_dump(study))
    write_data(place / "objects")
    words = f"transfer --task {name} --config smoke.yaml --run untrained_vit_seed0 --data objects --tables tables"
    code = f"from cl_vs_mim.cli import main; main({words.split()})"
    environment = {"PYTHONPATH": str(place), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(place / "tables" / name / "untrained_vit_seed0.parquet")
    assert len(table) == 10 and table["value"].mean() > 0.5
    assert set(table["model"]) == {"untrained_vit"} and len(table["config_hash"].unique()) == 1
    faulty = (place / "smoke.yaml").read_text().replace("metric: ", "metrik: ")
    (place / "smoke.yaml").write_text(faulty)
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "transfer.nearest_class.metrik: unknown key; did you mean 'metric'?" in done.stderr


def test_a_task_that_trains_asks_for_a_place_of_its_state(raw, tmp_path) -> None:
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(raw))
    transfer = next(command.run for command in COMMANDS if command.name == "transfer")
    given = {"config": tmp_path / "smoke.yaml", "run": RUN, "data": tmp_path, "tables": tmp_path / "tables"}
    with pytest.raises(UserError, match="finetuning trains; say with --runs where its state may live"):
        transfer(task="finetuning", **given)
    with pytest.raises(UserError, match=r"there is no task 'finetunin'; did you mean 'finetuning'\?"):
        transfer(task="finetunin", **given)


def test_a_task_is_plain_data() -> None:
    assert isinstance(TASKS["finetuning"], Task)
