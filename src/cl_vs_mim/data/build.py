"""Command line: compose one data set of a study.

``python -m cl_vs_mim.data.build --config config/smoke.yaml --dataset objects --output results/smoke/data/objects``

``<output>/manifest.json`` appears last, together with everything else; a folder without it counts as absent. A run
that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cl_vs_mim.config import KitData, load_study
from cl_vs_mim.core.errors import UserError, run_cli
from cl_vs_mim.data.cue_conflict import CueConflictRecipe
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.objects import ObjectRecipe
from cl_vs_mim.data.scenes import SceneRecipe
from cl_vs_mim.data.writer import Recipe, build

RECIPES = {"objects": ObjectRecipe, "scenes": SceneRecipe, "cue_conflict": CueConflictRecipe}


def recipe_of(data: KitData, dataset: str) -> Recipe:
    """The recipe of one of a study's data sets.

    Raises:
        UserError: the kit is missing or inconsistent.
    """
    return RECIPES[dataset](Kit.open(data.kit), getattr(data, dataset), data.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compose a data set from the image kit.")
    parser.add_argument("--config", type=Path, required=True, help="the study, for instance config/smoke.yaml")
    parser.add_argument("--dataset", choices=sorted(RECIPES), required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    if arguments.workers < 1:
        raise UserError(f"--workers {arguments.workers}: at least one is needed")
    recipe = recipe_of(load_study(arguments.config).data, arguments.dataset)
    manifest = build(recipe, arguments.output, arguments.workers, quiet=arguments.quiet)
    print(f"{arguments.output}: {manifest['images']} images, data_hash {manifest['data_hash'][:12]}")


if __name__ == "__main__":
    run_cli(_main, _parser())
