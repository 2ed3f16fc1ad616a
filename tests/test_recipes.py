"""The full-scale recipes are valid, name their source, and cover every method."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cl_vs_mim.config import Model
from cl_vs_mim.config.detection import Detection
from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.config.segmentation import Segmentation
from cl_vs_mim.config.transfer import AugmentedProbe, FineTuning

RECIPES = sorted((Path(__file__).parent.parent / "config" / "recipes").glob("*.yaml"))

TRANSFER = sorted((RECIPES[0].parent / "transfer").glob("*.yaml"))
KINDS = {"finetuning": FineTuning, "augmented": AugmentedProbe, "segmentation": Segmentation, "coco": Detection}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_valid_model_with_its_source(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    model = Model.model_validate(yaml.safe_load(text))
    assert path.stem.startswith(model.objective.method)
    assert text.startswith("# ") and "epochs" in text.splitlines()[0]


def test_every_method_has_one() -> None:
    named = {Model.model_validate(yaml.safe_load(path.read_text())).objective.method for path in RECIPES}
    assert named == set(OBJECTIVES.names()) - {"vq_tokenizer"}  # ours; it has no published recipe


@pytest.mark.parametrize("path", TRANSFER, ids=lambda path: path.stem)
def test_a_transfer_recipe_is_valid_and_says_where_it_is_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    kind = KINDS[path.stem.split("_")[0]]
    assert kind.model_validate(yaml.safe_load(text))
    assert text.startswith("# ")
