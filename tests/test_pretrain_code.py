"""What retrains an encoder: an edit of its method, of its family or of the trainer, and of nothing else."""

from __future__ import annotations

import pytest

from cl_vs_mim.config import load_study
from cl_vs_mim.config.encoders import model_and_seed, trained_runs
from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.core import closure as module
from cl_vs_mim.core.closure import closure, code_digest
from cl_vs_mim.pretrain.closure import training_code
from cl_vs_mim.pretrain.commands import COMMANDS

PARTS = {"hybrid": {"simmim", "moco_v3"}}  # methods that are made of others
METHODS = OBJECTIVES.names()


@pytest.fixture
def edit(monkeypatch):
    """Pretend that a module of the project does something else from now on."""
    code = module._code

    def edited(name: str) -> None:
        monkeypatch.setattr(module, "_code", lambda one: code(one) + ("\nx = 1" if one == name else ""))

    return edited


@pytest.mark.parametrize("other", METHODS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_retrained_for_an_edit_of_itself_and_its_parts(edit, method, other):
    before = code_digest(*training_code(method, "vit"))
    edit(f"cl_vs_mim.pretrain.{other}")
    changed = code_digest(*training_code(method, "vit")) != before
    assert changed == (other == method or other in PARTS.get(method, ()))


@pytest.mark.parametrize(
    ("edited", "retrains"),
    [
        ("pretrain.trainer", True),
        ("pretrain.schedule", True),
        ("data.augment", True),
        ("encoder.model", True),
        ("encoder.families.vit", True),
        ("encoder.families.beit", False),
        ("encoder.decoders.mae", False),
        ("encoder.checkpoints.official", False),
        ("pretrain.loop", False),
        ("pretrain.precision", False),
        ("pretrain.run", False),
        ("pretrain.monitor", False),
        ("pretrain.state", False),
        ("metrics.attention", False),
    ],
)
def test_what_retrains_moco_v3(edit, edited, retrains):
    assert f"cl_vs_mim.{edited}" in closure([f"cl_vs_mim.{edited}"]), "a module of that name decides results"
    before = code_digest(*training_code("moco_v3", "vit"))
    edit(f"cl_vs_mim.{edited}")
    assert (code_digest(*training_code("moco_v3", "vit")) != before) == retrains


def test_the_rule_of_every_encoder_has_its_own_method_and_family_in_what_decides_it(root, edit):
    study = load_study(root / "config" / "smoke.yaml")
    (command,) = (one for one in COMMANDS if one.name == "pretrain")
    runs = trained_runs(study)
    before = {run: command.decided(study, run) for run in runs}
    edit("cl_vs_mim.pretrain.dino")
    changed = {run for run in runs if command.decided(study, run) != before[run]}
    assert changed == {"dino_seed0"}
    edit("cl_vs_mim.encoder.families.beit")
    changed = {run for run in runs if command.decided(study, run) != before[run]}
    of_beit = {run for run in runs if study.models[model_and_seed(study, run)[0]].architecture == "beit"}
    assert changed == of_beit
