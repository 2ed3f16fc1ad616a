"""Ranges and relations of the YAML's values, the line and the nearest name in every message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from workplace import smoke_study

MOCO = "models.moco_v3"


def refused(folder: Path, key: str, value: object) -> str:
    """What is said of the smoke study with another value at a dotted key."""
    study = smoke_study()
    *way, last = (int(part) if part.isdigit() else part for part in key.split("."))
    section = study
    for part in way:
        section = section[part]
    section[last] = value
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_study(path)
    return str(error.value)


@pytest.mark.parametrize(
    "value", [[-1, 5], [0, 0], [0.5, 1.5], [1.0, 0.3], [float("nan"), 1], [0.2, float("inf")], [1]]
)
def test_a_share_of_an_image_lies_in_it(tmp_path: Path, value: object) -> None:
    assert f"{MOCO}.objective.views.0.crop_scale" in refused(tmp_path, f"{MOCO}.objective.views.0.crop_scale", value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"{MOCO}.seeds", [0, 0]),
        (f"{MOCO}.seeds", [2**31]),
        (f"{MOCO}.seeds", [True]),
        (f"{MOCO}.training.epochs", True),
        (f"{MOCO}.training.epochs", "2"),
        (f"{MOCO}.training.base_lr", float("inf")),
        (f"{MOCO}.training.base_lr", float("nan")),
        (f"{MOCO}.training.betas", [1, 1]),
        (f"{MOCO}.training.betas", [0.9, 1.0]),
        (f"{MOCO}.training.compile", 1),
        (f"{MOCO}.training.compile", "yes"),
        (f"{MOCO}.training.min_lr", 1e9),
        (f"{MOCO}.training.drop_path", 1.0),
        (f"{MOCO}.objective.temperature", float("inf")),
        (f"{MOCO}.objective.views.0.crop_ratio", [0, 1]),
        (f"{MOCO}.objective.views.0.crop_ratio", [2, 1]),
        (f"{MOCO}.objective.views.0.blur", {"probability": 1.0, "sigma": [-1, 2]}),
        ("analysis.control_seeds", [1, 1]),
        ("analysis.seed", -1),
        ("analysis.probe.learning_rates", [0.1, 0.1]),
        ("analysis.embedding.blocks", [1, 1]),
        ("figures.bootstrap.seed", True),
        ("data.seed", -3),
        ("data.objects.brightness", [1.2, 0.9]),
        ("data.objects.image_size", 10**9),
        ("architectures.vit.depth", 10**9),
        ("architectures.vit.mlp_ratio", float("inf")),
        ("compute.training_threads", True),
    ],
)
def test_a_value_that_would_train_wrongly_or_crash_later_is_refused(tmp_path: Path, key: str, value: object) -> None:
    message = refused(tmp_path, key, value)
    assert re.search(rf"line \d+: {re.escape(key)}\b", message), message
    assert "Traceback" not in message and message.count("\n") <= 2, "a line for each number that is wrong"


def test_the_line_is_that_of_the_key(root: Path, tmp_path: Path) -> None:
    lines = (root / "config" / "smoke.yaml").read_text().splitlines()
    number = next(number for number, line in enumerate(lines, 1) if "mask_ratio: 0.6" in line)
    path = tmp_path / "smoke.yaml"
    path.write_text("\n".join(lines).replace("mask_ratio: 0.6", "mask_ratio: 6", 1))
    with pytest.raises(UserError, match=rf"line {number}: models\.simmim\.objective\.mask_ratio"):
        load_study(path)


def test_the_line_of_a_value_from_a_recipe_names_its_file(root: Path, tmp_path: Path) -> None:
    recipe = (root / "config" / "recipes" / "dino.yaml").read_text()
    assert "paradigm: cl" in recipe
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "dino.yaml").write_text(recipe.replace("paradigm: cl", "paradigm: clm"))
    number = next(n for n, line in enumerate(recipe.splitlines(), 1) if "paradigm: cl" in line)
    study = smoke_study()
    study["models"]["dino"] = {"like": "recipes/dino", "seeds": [0], "architecture": "vit"}
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(study))
    said = rf"recipes/dino\.yaml, line {number}: models\.dino\.paradigm: 'clm' is unknown; did you mean 'cl'\?"
    with pytest.raises(UserError, match=said):
        load_study(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("models.simmim.objective.method", "sim_mim", "there is no objective 'sim_mim'; did you mean 'simmim'?"),
        ("models.hybrid_05.objective.mim.method", "sim_mim", "'sim_mim' is unknown; did you mean 'simmim'?"),
        ("architectures.vit.family", "vitt", "there is no family 'vitt'; did you mean 'vit'?"),
        (f"{MOCO}.training.schedule", "cosin", "'cosin' is unknown; did you mean 'cosine'?"),
        ("models.beit.objective.tokenizer_file", "a.safetensors", "give either tokenizer"),
    ],
)
def test_the_nearest_name_is_given_and_no_part_of_a_path_invented(
    tmp_path: Path, key: str, value: str, said: str
) -> None:
    message = refused(tmp_path, key, value)
    place = key.removesuffix(".tokenizer_file")  # of two keys, the section
    assert re.search(rf"line \d+: {re.escape(f'{place}: {said}')}", message), message


def test_faulty_yaml_is_shown_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "smoke.yaml"
    path.write_text("study: smoke\ntitle: [a\nreduced: true\n")
    with pytest.raises(UserError, match=r"smoke\.yaml, line 3 is not valid YAML: expected ',' or ']'"):
        load_study(path)
    path.write_text("study: smoke\nstudy: smoke\n")
    with pytest.raises(UserError, match=r"smoke\.yaml, line 2 is not valid YAML: the key 'study' occurs twice"):
        load_study(path)
