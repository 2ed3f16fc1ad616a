"""The one exception that a person is meant to read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable


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
