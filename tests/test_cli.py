"""The command line: quick, helpful, one line for what a person can mend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

import cl_vs_mim
from cl_vs_mim import cli
from cl_vs_mim.core.commands import Command
from cl_vs_mim.core.errors import UserError

SLOW_TO_IMPORT = ("torch", "timm", "matplotlib", "pandas", "scipy", "sklearn", "cv2", "snakemake")
called = {}


def paint(*, config: Path, colours: list[str], paper: Literal["white", "grey"] = "white", dry: bool = False) -> None:
    """Paint a picture of a study.

    It dries by itself.

    Example:
        cl-vs-mim paint --config config/smoke.yaml \\
            --colours red green

    Args:
        config: the study's YAML.
        colours: from light to dark.
        paper: what it is painted on.
        dry: only look.
    """
    if config.name == "none.yaml":
        raise UserError("config none.yaml does not exist; studies at hand: demo")
    called.update(config=config, colours=colours, paper=paper, dry=dry)


@pytest.fixture
def painting(monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command("paint", paint, lambda study, run: {}, lambda study, run: ())
    monkeypatch.setattr(cli, "floors", lambda: iter([("figures", (command,))]))
    called.clear()


def ends_with(status: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == status


def test_options_are_read_by_their_types(painting):
    cli.main(["paint", "--config", "a.yaml", "--colours", "red", "green", "--dry"])
    assert called == {"config": Path("a.yaml"), "colours": ["red", "green"], "paper": "white", "dry": True}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["paint", "--config", "none.yaml", "--colours", "red"],
            "config none.yaml does not exist; studies at hand: demo",
        ),
        (["paint", "--config", "a", "--colours", "red", "--paper", "gray"], 'Did you mean "grey"?'),
        (["paint", "--config", "a", "--colour", "red"], "--colours"),
        (["paint", "--config", "a"], "--colours"),
        (["pant"], 'Did you mean "paint"?'),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_status_2(painting, capsys, arguments, said):
    ends_with(2, *arguments)
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and said in printed.err
    assert not printed.out and not called


def test_another_error_keeps_its_traceback(painting, monkeypatch):
    monkeypatch.setattr(Path, "name", property(lambda self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        cli.main(["paint", "--config", "a", "--colours", "red"])


def test_help_shows_the_verbs_by_floor_and_an_example(painting, capsys):
    cli.main(["--help"])
    overview = capsys.readouterr().out
    assert "Figures and tables" in overview and "Paint a picture of a study." in overview
    cli.main(["paint", "--help"])
    shown = capsys.readouterr().out
    for part in (
        "It dries by itself.",
        "from light to dark.",
        "white, grey",
        "cl-vs-mim paint --config",
        "    --colours",
    ):
        assert part in shown


def test_two_commands_of_one_name_are_refused(monkeypatch):
    command = Command("paint", paint, lambda study, run: {}, lambda study, run: ())
    monkeypatch.setattr(cli, "floors", lambda: iter([("data", (command,)), ("figures", (command,))]))
    with pytest.raises(ValueError, match="paint"):
        cli.commands()


def test_every_floor_with_commands_is_found_and_every_command_documented():
    there = {path.parent.name for path in Path(cl_vs_mim.__file__).parent.glob("*/commands.py")} - {"core"}
    assert {floor for floor, _ in cli.floors()} == there
    for name, command in cli.commands().items():
        assert f"cl-vs-mim {name} " in cli.example(command.run), f"{name}: its docstring shows no example"


SCRIPT = Path(sys.executable).with_name("cl-vs-mim")


@pytest.mark.parametrize(
    "start",
    [
        "runpy.run_module('cl_vs_mim', run_name='__main__')",
        pytest.param(
            f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')",
            marks=pytest.mark.skipif(not SCRIPT.exists(), reason="the package is not installed beside this Python"),
        ),
    ],
    ids=["module", "script"],
)
def test_the_overview_imports_nothing_slow(start):
    """Measured in a process of its own: what another test has imported does not count."""
    look = (
        "import runpy, sys\nsys.argv = ['cl-vs-mim', '--help']\n"
        f"try:\n    {start}\n"
        f"finally:\n    print('slow:', sorted(set({SLOW_TO_IMPORT}) & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60)
    assert "snakemake --cores all figures/fig3.pdf" in result.stdout and "slow: []" in result.stdout, result.stderr
