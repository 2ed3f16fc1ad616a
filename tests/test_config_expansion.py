"""What a study says once and uses more than once is written out before it is checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from checkout import STUDIES
from cl_vs_mim.config import Study, load_study
from cl_vs_mim.config.expansion import expand
from cl_vs_mim.config.study import expanded
from cl_vs_mim.core.errors import UserError


def test_a_section_takes_over_another_and_its_own_keys_win() -> None:
    raw = {"a": {"x": 1, "in": {"y": [1, 2], "z": 3}}, "b": {"like": "a", "in": {"y": [4]}, "w": 5}}
    assert expand(raw)["b"] == {"x": 1, "in": {"y": [4], "z": 3}, "w": 5}
    assert expand(raw)["a"] == raw["a"]


def test_a_section_within_and_a_chain_of_them() -> None:
    raw = {"a": {"in": {"x": 1}}, "b": {"like": "a.in", "y": 2}, "c": {"like": "b", "x": 3}}
    assert expand(raw)["c"] == {"x": 3, "y": 2}


def test_views_are_named() -> None:
    raw = {"views": {"crop": {"flip": 0.5}, "wide": {"like": "views.crop", "size": 4}}}
    raw |= {"m": {"views": ["wide", {"flip": 0}, "crop"]}}
    assert expand(raw) == {"m": {"views": [{"flip": 0.5, "size": 4}, {"flip": 0}, {"flip": 0.5}]}}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"a": {"x": 1}, "b": {"like": "c"}}, "b.like: there is no 'c' in this file; valid: a, b"),
        (
            {"m": {"one": {}}, "b": {"like": "m.ones"}},
            r"b.like: there is no 'm.ones' in this file; did you mean 'one'\?",
        ),
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "is like itself"),
        ({"a": {"like": "a.b", "b": {"like": "a"}}}, "is like itself"),
        ({"a": 1, "b": {"like": "a"}}, "b.like: 'a' is a value, not a section"),
        (
            {"views": {"crop": {}}, "m": {"views": ["corp"]}},
            r"m.views.0: there is no view 'corp'.*did you mean 'crop'\?",
        ),
        ({"views": {"crop": {}}, "m": {"views": []}}, "views.crop: used nowhere"),
        ({"training": {"short": {}}}, "training.short: used nowhere"),
        ({"m": {"like": "recipes/dino"}}, "cannot be found without the study's file"),
    ],
)
def test_what_does_not_exist_or_is_not_used_is_named(raw, message) -> None:
    with pytest.raises(UserError, match=message):
        expand(raw)


def test_a_recipe_is_taken_from_the_folder_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "dino.yaml").write_text("{seeds: [0], objective: {a: 1}}")
    assert expand({"m": {"like": "recipes/dino", "seeds": [1]}}, tmp_path)["m"] == {"seeds": [1], "objective": {"a": 1}}
    assert expand({"m": {"like": "recipes/dino.objective"}}, tmp_path)["m"] == {"a": 1}
    with pytest.raises(UserError, match=r"no recipe 'dion' in .*; did you mean 'dino'\?"):
        expand({"m": {"like": "recipes/dion"}}, tmp_path)


@pytest.mark.parametrize("name", STUDIES)
def test_the_expanded_study_reads_back_as_the_same_and_names_nothing(root: Path, tmp_path: Path, name: str) -> None:
    study = load_study(root / "config" / f"{name}.yaml")
    path = tmp_path / f"{name}.yaml"
    path.write_text(expanded(study), encoding="utf-8")
    assert load_study(path) == study
    assert "like:" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["demo", "quick"])
def test_a_study_for_a_laptop_says_everything_in_200_lines(root: Path, name: str) -> None:
    text = (root / "config" / f"{name}.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200 and "recipes/" not in text.replace("config/recipes/", "")
    Study.model_validate(yaml.safe_load(text))  # without any other file


def test_a_wrong_key_that_is_taken_over_is_named_where_it_stands(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "quick.yaml"
    path.write_text(
        (root / "config" / "quick.yaml").read_text("utf-8").replace("warmup_epochs: 0.4", "warmup_epoch: 0.4")
    )
    with pytest.raises(
        UserError, match=r"models.moco_v3.training.warmup_epoch: unknown key; did you mean 'warmup_epochs'"
    ):
        load_study(path)
