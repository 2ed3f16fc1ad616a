"""Which recipe composes which data set of a study."""

from __future__ import annotations

from cl_vs_mim.config import KitData
from cl_vs_mim.data.cue_conflict import CueConflictRecipe
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.objects import ObjectRecipe
from cl_vs_mim.data.scenes import SceneRecipe
from cl_vs_mim.data.writer import Recipe

DECIDES_NO_RESULT = True  # it looks a recipe up; what composes is the recipe, whose values enter by themselves

# A module of cl_vs_mim.data each, named as the data set is: a data set depends on the code of its own recipe.
RECIPES = {"objects": ObjectRecipe, "scenes": SceneRecipe, "cue_conflict": CueConflictRecipe}


def recipe_of(data: KitData, dataset: str) -> Recipe:
    """The recipe of one of a study's data sets.

    Raises:
        UserError: the kit is missing or inconsistent.
    """
    return RECIPES[dataset](Kit.open(data.kit), getattr(data, dataset), data.seed)
