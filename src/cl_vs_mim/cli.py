"""``cl-vs-mim <verb>``: every command of the project on one command line.

The verbs are the ``COMMANDS`` of the floors' ``commands.py``; a new one needs no word here. Types, defaults, help and
shell completion are read from the functions themselves: their annotations, their docstrings' first lines, ``Args`` and
``Example``. Those modules import what does the work only when it is asked for, so that ``--help`` does not wait for
torch.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter

import cl_vs_mim
from cl_vs_mim.core.commands import Command
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import remedy
from cl_vs_mim.core.registry import using
from cl_vs_mim.core.workflow_lock import hold_command

DECIDES_NO_RESULT = True

# Titles of the groups in `--help`, in the order of the work; a floor that is not named here follows under its own name.
TITLES = {
    "data": "Data sets",
    "pretrain": "Pre-training",
    "analysis": "Looking inside an encoder",
    "transfer": "What an encoder is good for",
    "figures": "Figures and tables",
    "audit": "Audit of the paper's claims",
}

_HELP = """Replicate and audit "What Do Self-Supervised Vision Transformers Learn?" (Park et al., ICLR 2023).

Each command does one step for one encoder, data set or figure, and writes files that are whole or absent. The whole way
from raw images to a figure is one line, which calls these commands in their order, and only those that are needed:

    snakemake --cores all figures/fig3.pdf
"""
_EPILOGUE = """``cl-vs-mim <command> --help`` shows the options of a command and an example. ``cl-vs-mim
--install-completion`` makes the shell complete commands and options. Exit status 2 means something that you can mend;
one line says what.
"""


# ------------------------------------------------------------------------------------------------
# What there is
# ------------------------------------------------------------------------------------------------


def floors() -> Iterator[tuple[str, tuple[Command, ...]]]:
    """Every floor that has commands, in the order of the work, with its commands."""
    package = Path(cl_vs_mim.__file__).parent
    there = sorted(path.parent.name for path in package.glob("*/commands.py") if path.parent.name != "core")
    order = [*(name for name in TITLES if name in there), *(name for name in there if name not in TITLES)]
    for name in order:
        yield name, import_module(f"cl_vs_mim.{name}.commands").COMMANDS


def commands() -> dict[str, Command]:
    """Verb -> command, of all floors.

    Raises:
        ValueError: two floors have a command of the same name.
    """
    found: dict[str, Command] = {}
    for floor, own in floors():
        for command in own:
            if command.name in found:
                raise ValueError(f"cl_vs_mim.{floor}.commands: there is a command {command.name!r} on another floor")
            found[command.name] = command
    return found


# ------------------------------------------------------------------------------------------------
# The command line
# ------------------------------------------------------------------------------------------------


def app() -> App:
    """The command line, built from the commands."""
    line = App(
        name="cl-vs-mim",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="markdown",
        version=cl_vs_mim.__version__,
        # Lists are `--tables a b c`, as a shell expands them; flags have no negative twin.
        default_parameter=Parameter(consume_multiple=True, negative=()),
        group_commands=Group("This command line", sort_key=len(TITLES) + 99),
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    line.register_install_completion_command()
    for place, (floor, own) in enumerate(floors()):
        group = Group(TITLES.get(floor, floor), sort_key=place)
        for command in own:
            line.command(
                _with_extensions(command.run), name=command.name, group=group, help_epilogue=example(command.run)
            )
    return line


def _with_extensions(function: Callable[..., None]) -> Callable[..., None]:
    """The function of a command, within the extensions of the study that it is given as ``config``."""

    @wraps(function)
    def run(*given: Any, **options: Any) -> None:
        if (config := options.get("config")) is None:
            return function(*given, **options)
        from cl_vs_mim.config.study import extensions_of_file

        with using(extensions_of_file(config)):
            return function(*given, **options)

    return run


def example(function: Callable[..., None]) -> str:
    """The ``Example`` section of a docstring as the foot of the command's help; empty where there is none."""
    lines = (inspect.getdoc(function) or "").splitlines()
    if "Example:" not in lines:
        return ""
    section = takewhile(lambda line: not line or line.startswith(" "), lines[lines.index("Example:") + 1 :])
    return "Example:\n\n" + "\n".join(section).rstrip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what a person can mend becomes one line on stderr and exit status 2.

    Args:
        arguments: the words of the command line; those of the process where left out.
    """
    held = hold_command()  # until it ends, where a workflow runs it
    try:
        app()(arguments)
    except UserError as error:
        _stop(str(error))
    except OSError as error:  # where no command has said it better
        if (what := remedy(error)) is None:
            raise
        _stop(f"cannot use {error.filename or 'a file'}: {what}")
    except CycloptsError as error:
        _stop(" ".join(str(error).split()))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    finally:
        if held is not None:
            held.close()


def _stop(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
