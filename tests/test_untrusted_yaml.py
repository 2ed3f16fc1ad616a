"""YAML of others: pipes, bombs of aliases and merges, garbage; every fault is one line that names file and line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.config import load_study
from cl_vs_mim.config.expansion import expand
from cl_vs_mim.config.study import FileLimits, extensions_of_file
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.untrusted import Limits, limits, set_limits
from cl_vs_mim.core.yaml_files import parse_yaml, read_yaml

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 12)
)
FAULTS = {
    "aliases": (ALIASES, r"line 6 is not valid YAML: its aliases stand for more than 100,000 values"),
    "merges": (MERGES, r"line \d is not valid YAML: its aliases stand for more than 100,000 values"),
    "itself": ("a: &a [*a]", "line 1 is not valid YAML: an alias of what it stands in"),
    "depth": ("a: " + "[" * 200 + "]" * 200, "line 1 is not valid YAML: nested deeper than 50 levels"),
    "depth in blocks": ("".join(" " * n + "- \n" for n in range(300)), "nested deeper than 50 levels"),
    "a list as key": ("a: 1\n[b, c]: 2", "line 2 is not valid YAML: a list or mapping cannot be a key"),
    "a mapping as key": ("{a: 1}: 2", "line 1 is not valid YAML: a list or mapping cannot be a key"),
    "a brace as value": ("a: {{b}}", "line 1 is not valid YAML: a list or mapping cannot be a key"),
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3 is not valid YAML: the key 'a' occurs twice"),
    "no date": ("a: 1\nb: 2001-99-99", "line 2 is not valid YAML: month must be in 1..12"),
    "no number": ("a: 0b_", "line 1 is not valid YAML: invalid literal for int"),
    "a number of very many digits": ("a: " + "9" * 5000, "line 1 is not valid YAML: Exceeds the limit"),
    "a tag": (
        "a: 1\nb: !!python/object/apply:os.mkdir [x]",
        "line 2 is not valid YAML: could not determine a constructor for the tag",
    ),
    "half a list": ("a: 1\nb: [1, 2", "line 2 is not valid YAML: expected"),
    "a tab": ("a:\n\tb: 1", "line 2 is not valid YAML: found character"),
    "control characters": ("a: 1\nb: \0", "line 2 is not valid YAML: a control character"),
    "an unknown alias": ("a: *b", "line 1 is not valid YAML: found undefined alias"),
    "nothing": ("", "is empty; it should be a mapping"),
    "a list": ("- a", "holds a list; it should be a mapping"),
    "two documents": ("a: 1\n---\nb: 1", "line 2 is not valid YAML: expected a single document"),
}


@pytest.fixture(autouse=True)
def default_limits():
    yield
    set_limits(Limits())


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("read", [read_yaml, load_study, load_claims])
def test_a_fault_is_named_with_file_and_line(tmp_path: Path, fault: str, read) -> None:
    text, words = FAULTS[fault]
    path = tmp_path / "study.yaml"
    path.write_text(text)
    began = time.monotonic()
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    assert time.monotonic() - began < 5
    assert (
        str(path) in str(caught.value) and "\n" not in str(caught.value) and "<unicode string>" not in str(caught.value)
    )
    assert extensions_of_file(path) == ()


@pytest.mark.parametrize("read", [read_yaml, load_study, load_claims])
def test_what_is_no_text_file_is_refused(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes("a: 1\nb: Müller".encode("latin-1"))
    (tmp_path / "huge.yaml").write_text("")
    os.truncate(tmp_path / "huge.yaml", 2_000_000)
    for name, words in {
        "pipe": "is a named pipe, not a file",
        "zero": "is a device, not a file",
        "folder": "is a folder, not a file",
        "latin": "line 2: not UTF-8 text; save it as UTF-8",
        "huge": "more than the 1 MB of a file of kind 'yaml'",
    }.items():
        with pytest.raises(UserError, match=words):
            read(tmp_path / f"{name}.yaml")
    with pytest.raises((UserError, FileNotFoundError)):  # whose siblings are looked at, the pipe among them
        read(tmp_path / "gone.yaml")


def test_recipes_pass_the_same_gate(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for text, words in ((ALIASES, "recipe .*bomb.yaml, line 6 is not valid YAML"), ("- a", "recipe .* holds a list")):
        (tmp_path / "recipes" / "bomb.yaml").write_text(text)
        with pytest.raises(UserError, match=words):
            expand({"models": {"like": "recipes/bomb"}}, tmp_path)


def test_like_multiplies_nothing_without_end() -> None:
    chain = {
        f"s{n}": {"like": f"s{n - 1}", "x": {"like": f"s{n - 1}"}, "y": {"like": f"s{n - 1}"}} for n in range(1, 30)
    }
    began = time.monotonic()
    with pytest.raises(UserError, match="'like'"):
        expand({"s0": {"k": 1}} | chain)
    assert time.monotonic() - began < 10
    deep: dict = {"k": 1}
    for _ in range(40):
        deep = {"x": deep}
    long = {"s0": deep} | {f"s{n}": {"like": f"s{n - 1}"} for n in range(1, 200)}
    with pytest.raises(UserError, match="more than 15 times"):
        expand(long)


@pytest.mark.parametrize("name", ["config", "config/recipes", "config/recipes/transfer"])
def test_what_ships_is_read_as_plain_yaml_reads_it(root: Path, name: str) -> None:
    for path in (root / name).glob("*.yaml"):
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_anchors_and_merges_of_ordinary_size_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\nd: {<<: [*a, {z: 4}], x: 9}"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_a_study_sets_the_limits(root: Path, tmp_path: Path) -> None:
    assert FileLimits().model_dump() == {
        name: value for name, value in vars(Limits()).items() if name != "yaml_megabytes"
    }
    raw = yaml.safe_load((root / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    (tmp_path / "recipes").symlink_to(root / "config" / "recipes")
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(raw | {"limits": {"image_megapixels": 400}}))
    load_study(tmp_path / "smoke.yaml")
    assert limits() == Limits(image_megapixels=400)
    load_study(root / "config" / "smoke.yaml")
    assert limits() == Limits()
