"""The command that shows a study as it is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cl_vs_mim.core.commands import Command

DECIDES_NO_RESULT = True


def show_study(*, config: Path, output: Path | None = None) -> None:
    """Check a study, and write it out with everything that it takes over from elsewhere and every default.

    Args:
        config: the study, such as config/demo.yaml.
        output: where to write it, .yaml; the screen if left out.

    Example:
        cl-vs-mim show-study --config config/demo.yaml
    """
    from cl_vs_mim.config.study import expanded, load_study
    from cl_vs_mim.core.files import write_text

    text = expanded(load_study(config))
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


def _decides(study: Any, run: str) -> dict[str, Any]:
    """The whole study, labels and notes included."""
    return study.model_dump(mode="json")


def _code(study: Any, run: str) -> tuple[str, ...]:
    return ()


COMMANDS = (Command("show-study", show_study, _decides, _code),)
