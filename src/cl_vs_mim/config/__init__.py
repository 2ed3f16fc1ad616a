"""The study's YAML as typed, validated data. Nothing runs before the whole file has been checked.

Every key is known or refused by name, with the nearest valid one; every value has a unit in its comment and a range
that is checked. What a method of pre-training may be told, its module alone knows (see :mod:`.objective`).
"""

from __future__ import annotations

from cl_vs_mim.config.analysis import Analysis, AttentionMapFigure, Bootstrap, Figures
from cl_vs_mim.config.data import CueConflictImages, FolderData, KitData, ObjectImages, SceneImages
from cl_vs_mim.config.models import Architecture, Model, Training
from cl_vs_mim.config.objective import ObjectiveConfig
from cl_vs_mim.config.sections import Section
from cl_vs_mim.config.study import Compute, Expectation, Study, load_study
from cl_vs_mim.config.views import Blur, View

DECIDES_NO_RESULT = True  # its values enter what decides a result by themselves

__all__ = [
    "Analysis",
    "Architecture",
    "AttentionMapFigure",
    "Blur",
    "Bootstrap",
    "Compute",
    "CueConflictImages",
    "Expectation",
    "Figures",
    "FolderData",
    "KitData",
    "Model",
    "ObjectImages",
    "ObjectiveConfig",
    "SceneImages",
    "Section",
    "Study",
    "Training",
    "View",
    "load_study",
]
