"""The command line that all figure modules share."""

from __future__ import annotations

import argparse
from pathlib import Path

REFERENCE = {"reference": "CSV of published values"}


def figure_parser(title: str, **further: str) -> argparse.ArgumentParser:
    """``--config``, ``--tables`` and ``--output``, and one required option for each further input.

    Args:
        title: of the figure.
        further: name -> help of more inputs; several files each where the name ends in ``_tables``.
    """
    result = argparse.ArgumentParser(description=f"Draw {title} from tables.")
    result.add_argument("--config", type=Path, required=True, help="the study's YAML")
    result.add_argument("--tables", type=Path, nargs="+", required=True, help="tables, one per encoder")
    for name, text in further.items():
        option = f"--{name.replace('_', '-')}"
        several = {"nargs": "+"} if name.endswith("_tables") else {}
        result.add_argument(option, type=Path, required=True, help=text, **several)
    result.add_argument("--output", type=Path, required=True, help="….pdf; a .png and a .csv come beside it")
    return result
