"""The one exception that a person is meant to read."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable

DECIDES_NO_RESULT = True


class UserError(Exception):
    """Something the user can mend: the message names the file, key or row and says what to do.

    Command-line modules print it as a single line and exit with status 2; anything else is a bug and
    keeps its traceback.
    """


def run_cli(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line, run ``main`` and turn a :class:`UserError` into one clear line (exit status 2)."""
    try:
        main(parser.parse_args())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def warn(message: str) -> None:
    """One line on the standard error stream."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def nearest(word: str, candidates: Iterable[str]) -> str:
    """``; did you mean …?`` for the closest candidate, else the list of all; empty where there is none."""
    candidates = list(candidates)
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid: {', '.join(sorted(candidates))}" if candidates else ""
