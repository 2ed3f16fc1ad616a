"""The lock of a workflow that was killed, told from that of one that is running.

Snakemake marks a folder as in use by files in ``.snakemake/locks``, which stay when it is killed, and refuses to start
beside them. Each workflow therefore also holds a lock of the operating system, which ends with its process, however
it ends; so does each command that a rule runs. When nobody holds either, what is in ``.snakemake/locks`` is dead.

A lock of another machine cannot be seen everywhere, so every workflow writes down where it runs, and marks of a
workflow elsewhere are left to a person (``snakemake --unlock``).
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

DECIDES_NO_RESULT = True

VARIABLE = "CL_VS_MIM_WORKFLOW"  # the file that commands of a workflow hold, in their environment
_WORKFLOWS, _COMMANDS = "workflows.held", "commands.held"


def hold_workflow(folder: Path) -> IO[Any] | None:
    """Clear what killed workflows have left of their lock, and hold this one's; keep the result as long as it runs.

    Where commands of a killed workflow are still running, it waits for them: they would write the same files.

    Args:
        folder: ``.snakemake`` of the workflow.

    Returns:
        The file held; None where the folder cannot be written or locked, where Snakemake's own lock has to do.
    """
    locks, here = folder / "locks", platform.node()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = (folder / _WORKFLOWS).open("a+")
    except OSError:
        return None
    try:
        if _locked(held, fcntl.LOCK_EX):
            _wait_for_commands(folder / _COMMANDS)
            held.seek(0)
            left = locks.is_dir() and any(locks.iterdir())
            others = set(held.read().split()) - {here} if left else set()
            if not others:
                shutil.rmtree(locks, ignore_errors=True)
                held.truncate(0)
            else:
                print(
                    f"a lock of {', '.join(sorted(others))}; if nothing runs there: snakemake --unlock", file=sys.stderr
                )
        fcntl.flock(held, fcntl.LOCK_SH)
        held.seek(0)
        if here not in held.read().split():
            print(here, file=held, flush=True)
    except OSError:  # a disk without locks
        held.close()
        return None
    os.environ[VARIABLE] = str((folder / _COMMANDS).absolute())
    return held


def hold_command() -> IO[Any] | None:
    """Held by a command that a workflow runs, until it ends; keep the result as long."""
    if (path := os.environ.get(VARIABLE)) is None:
        return None
    with suppress(OSError):
        held = Path(path).open("a")  # noqa: SIM115 - until the process ends
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return held
    return None


def _wait_for_commands(path: Path) -> None:
    with path.open("a") as stream:
        waits = False
        while not _locked(stream, fcntl.LOCK_EX):
            if not waits:
                print("commands of a workflow that was killed are still running; waiting for them", file=sys.stderr)
            waits = True
            time.sleep(0.2)


def _locked(stream: IO[Any], kind: int) -> bool:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
