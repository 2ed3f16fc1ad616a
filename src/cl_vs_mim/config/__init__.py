"""The study's YAML as typed, validated data. Nothing runs before the whole file has been checked.

Every key is known or refused by name, with the nearest valid one; every value has a unit in its comment and a range
that is checked. ``config/<study>.yaml`` is complete in itself: studies are never merged.
"""

from __future__ import annotations

from cl_vs_mim.config.analysis import Analysis, AttentionMapFigure, Bootstrap, Figures, block_index
from cl_vs_mim.config.data import CueConflictImages, FolderData, KitData, ObjectImages, SceneImages
from cl_vs_mim.config.models import (
    Architecture,
    BEiTObjective,
    Blur,
    DINOObjective,
    HybridObjective,
    MAEObjective,
    MoCoV3Objective,
    Model,
    Objective,
    SimMIMObjective,
    SupervisedObjective,
    Training,
    View,
    VQTokenizerObjective,
)
from cl_vs_mim.config.sections import Section
from cl_vs_mim.config.study import Compute, Expectation, Study, load_study

DECIDES_NO_RESULT = True  # its values enter what decides a result by themselves

__all__ = [
    "Analysis",
    "Architecture",
    "AttentionMapFigure",
    "BEiTObjective",
    "Blur",
    "Bootstrap",
    "Compute",
    "CueConflictImages",
    "DINOObjective",
    "Expectation",
    "Figures",
    "FolderData",
    "HybridObjective",
    "KitData",
    "MAEObjective",
    "MoCoV3Objective",
    "Model",
    "ObjectImages",
    "Objective",
    "SceneImages",
    "Section",
    "SimMIMObjective",
    "Study",
    "SupervisedObjective",
    "Training",
    "VQTokenizerObjective",
    "View",
    "block_index",
    "load_study",
]
