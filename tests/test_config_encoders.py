"""What decides an encoder, said once: edits of the study that change it, and edits that change nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from cl_vs_mim.config import Study
from cl_vs_mim.config.encoders import decides_encoder
from cl_vs_mim.core.errors import UserError


@pytest.fixture
def raw(root: Path) -> dict:
    """The smoke study as plain data, to be edited."""
    return yaml.safe_load((root / "config" / "smoke.yaml").read_text())


def decided(raw: dict, run: str) -> dict:
    return decides_encoder(Study.model_validate(raw), run)


def put(raw: dict, path: str, value: object) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        raw = raw[parent]
    raw[key] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.moco_v3.seeds", [0, 1, 2]),
        ("models.moco_v3.label", "another name"),
        ("models.moco_v3.choices", "other words"),
        ("models.moco_v3.training.log_steps", 7),
        ("models.moco_v3.training.checkpoint_steps", 7),
        ("models.moco_v3.training.snapshots", {"first": 100}),
        ("architectures.vit.label", "another name"),
        ("models.dino.objective.momentum", 0.5),
        ("data.scenes.train", 13),
        ("data.cue_conflict.images", 29),
        ("analysis.images", 31),
        ("figures.bootstrap.resamples", 11),
        ("compute.training_threads", 2),
    ],
)
def test_what_does_not_decide_an_encoder(raw, path, value) -> None:
    before = decided(raw, "moco_v3_seed0")
    put(raw, path, value)
    assert decided(raw, "moco_v3_seed0") == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.moco_v3.objective.momentum", 0.5),
        ("models.moco_v3.training.base_lr", 0.5),
        ("models.moco_v3.training.precision", "auto"),
        ("architectures.vit.depth", 4),
        ("data.objects.train_per_identity", 3),
        ("data.seed", 3),
    ],
)
def test_what_decides_an_encoder(raw, path, value) -> None:
    before = decided(raw, "moco_v3_seed0")
    put(raw, path, value)
    assert decided(raw, "moco_v3_seed0") != before


def test_how_often_the_state_is_saved_decides_where_a_rollback_returns_to(raw) -> None:
    put(raw, "models.moco_v3.training.rollback_factor", 0.5)
    before = decided(raw, "moco_v3_seed0")
    put(raw, "models.moco_v3.training.checkpoint_steps", 7)
    assert decided(raw, "moco_v3_seed0") != before


def test_beit_is_decided_by_what_decides_its_tokenizer_and_not_by_its_name(raw) -> None:
    before = decided(raw, "beit_seed0")
    raw["models"]["codebook"] = raw["models"].pop("tokenizer")
    put(raw, "models.beit.objective.tokenizer", "codebook")
    assert decided(raw, "beit_seed0") == before
    put(raw, "models.codebook.training.base_lr", 0.5)
    assert decided(raw, "beit_seed0") != before


def test_a_control_is_decided_by_its_architecture_and_seed(raw) -> None:
    study = Study.model_validate(raw)
    decided = decides_encoder(study, "untrained_vit_seed0")
    assert set(decided) == {"architecture", "seed"} and decided["seed"] == 0
    assert "label" not in decided["architecture"]


def test_it_is_plain_data(root: Path) -> None:
    study = Study.model_validate(yaml.safe_load((root / "config" / "smoke.yaml").read_text()))
    decided = decides_encoder(study, "beit_seed0")
    assert json.loads(json.dumps(decided)) == decided


def test_an_encoder_that_the_study_does_not_have_is_named_with_the_nearest(raw) -> None:
    with pytest.raises(UserError, match=r"no encoder 'moco_v3_seed9'; did you mean 'moco_v3_seed0'\?"):
        decided(raw, "moco_v3_seed9")


# ------------------------------------------------------------------------------------------------
# What a method asks of its study
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models.mae.architecture", "beit", "models.mae.objective.method: mae drops patches"),
        ("models.dino.architecture", "beit", "models.dino.objective.method: dino takes crops of several sizes"),
        (
            "models.simmim.objective.mask_unit",
            4,
            "models.simmim.objective.mask_unit: 4 patches do not tile the 6x6 grid",
        ),
        ("models.hybrid_05.objective.mim.mask_unit", 4, "models.hybrid_05.objective.mim.mask_unit: 4 patches do not"),
        ("models.beit.objective.tokenizer", "mae", "models.beit.objective.tokenizer: 'mae' is no model of method vq_"),
        ("models.beit.objective.codes", 7, "models.beit.objective.codes: 7, but tokenizer 'tokenizer' has"),
        (
            "models.mae.paradigm",
            "tokenizer",
            "models.mae.paradigm: tokenizer goes with a method that trains tokenizers",
        ),
    ],
)
def test_a_method_compares_itself_with_its_study(raw, path, value, message) -> None:
    put(raw, path, value)
    with pytest.raises(ValidationError) as error:
        Study.model_validate(raw)
    assert message in str(error.value)


def test_lambda_is_a_number_of_a_hybrid_and_of_no_other(raw) -> None:
    study = Study.model_validate(raw)
    assert study.mixing("hybrid_05") == 0.5
    assert all(math.isnan(study.mixing(name)) for name in ("simmim", "moco_v3", "untrained_vit"))
