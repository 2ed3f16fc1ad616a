"""One progress bar for a terminal and for a log file: rate, time left, and never a wall of carriage returns."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_LINE_FORMAT = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_LOG_SECONDS = 10.0  # between two lines where no terminal redraws the bar


class _Lines:
    """A stream for tqdm on which every redraw is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        self._stream.flush()


DECIDES_NO_RESULT = True


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: float | None = None,
    initial: float = 0,
    desc: str,
    unit: str,
    quiet: bool = False,
) -> tqdm:
    """A tqdm bar on standard error, or none if ``quiet``; in a log or a pipe, a line every ten seconds instead.

    What takes less than ten seconds leaves no line there.
    """
    options: dict[str, Any] = {"total": total, "initial": initial, "desc": desc, "unit": unit}
    options |= {"disable": quiet, "smoothing": 0.1}
    if sys.stderr.isatty():
        return tqdm(iterable, dynamic_ncols=True, **options)
    options |= {"mininterval": _LOG_SECONDS, "delay": _LOG_SECONDS, "bar_format": _LINE_FORMAT}
    return tqdm(iterable, file=_Lines(sys.stderr), **options)
