"""Print one digest of a few composed pictures of every kind and of what is noted of them; for tests/test_exact.py."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import cv2

from cl_vs_mim.config import load_study
from cl_vs_mim.data.build import recipe_of

STEPS = {"objects": 61, "scenes": 5, "cue_conflict": 3}  # every how many pictures of the smoke study


def digest(root: Path) -> str:
    """Of files and rows of the smoke study's pictures."""
    data = load_study(root / "config" / "smoke.yaml").data
    total = hashlib.sha256()
    for dataset, step in STEPS.items():
        recipe = recipe_of(data, dataset)
        for index in range(0, len(recipe), step):
            rendered = recipe.render(index)
            for name, content in sorted(rendered.files.items()):
                total.update(name.encode() + content)
            total.update(repr(rendered.row).encode())
    return total.hexdigest()


if __name__ == "__main__":
    cv2.setNumThreads(0)
    print(digest(Path(sys.argv[1])))
