"""The YAML is checked as a whole before anything runs, and every problem is named."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.config import FolderData, load_study
from cl_vs_mim.core.errors import UserError


@pytest.fixture
def smoke(root: Path, tmp_path: Path):
    """Write config/smoke.yaml with one piece of text replaced, and give its path."""
    text = (root / "config" / "smoke.yaml").read_text()

    def write(old: str = "", new: str = "") -> Path:
        assert old in text, f"{old!r} is not in smoke.yaml: the test would check nothing"
        path = tmp_path / "smoke.yaml"
        path.write_text(text.replace(old, new, 1))
        return path

    return write


@pytest.mark.parametrize("study", ["smoke", "quick"])
def test_committed_studies_are_valid(root: Path, study: str) -> None:
    loaded = load_study(root / "config" / f"{study}.yaml")
    assert loaded.study == study
    assert set(loaded.controls()) == {"untrained_vit", "untrained_beit"}
    precisions = {model.training.precision for model in loaded.models.values()}
    assert precisions == {"32-true"}, "auto differs between machines"


def test_the_paper_study_has_every_method_the_whole_sweep_and_every_transfer(root: Path) -> None:
    study = load_study(root / "config" / "paper.yaml")
    assert isinstance(study.data, FolderData) and not study.reduced
    methods = {model.objective.method for model in study.models.values()}
    assert methods == {"moco_v3", "simmim", "mae", "dino", "beit", "vq_tokenizer", "supervised", "hybrid"}
    sweep = [model.objective.weight for model in study.models.values() if model.objective.method == "hybrid"]
    assert sorted(sweep) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert all(getattr(study.transfer, part) for part in ("finetuning", "augmented_probe", "detection", "segmentation"))


@pytest.mark.parametrize(
    ("old", "new", "key", "suggestion"),
    [
        ("temperature:", "temprature:", "models.moco_v3.objective.temprature", "temperature"),
        ("solarize: 0.2", "solarise: 0.2", "models.moco_v3.objective.views.1.solarise", "solarize"),
        ("seed: 2023", "sed: 2023", "data.sed", "seed"),
        ("level: 0.95", "levle: 0.95", "figures.bootstrap.levle", "level"),
        ("train_per_identity", "train_per_identitty", "data.objects.train_per_identitty", "train_per_identity"),
        ("\nanalysis:", "\nanalyses:", "analyses", "analysis"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_valid_one(smoke, old, new, key, suggestion) -> None:
    with pytest.raises(UserError) as error:
        load_study(smoke(old, new))
    assert f"{key}: unknown key; did you mean '{suggestion}'?" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mask_unit: 2", "mask_unit: 5", "models.simmim.objective.mask_unit: 5 patches do not tile the 6x6 grid"),
        ("architecture: vit", "architecture: vitt", "is not among the architectures; did you mean 'vit'?"),
        ("patch_size: 8", "patch_size: 7", "image_size 48 is not a multiple of patch_size 7"),
        ("heads: 4", "heads: 5", "width 64 is not a multiple of heads 5"),
        ("positions: sincos", "positions: relative", "family 'vit' does not take positions 'relative'"),
        ("temperature: 0.2", "temperature: -1", "models.moco_v3.objective.temperature"),
        ("warmup_epochs: 0.5", "warmup_epochs: 9", "warmup_epochs 9.0 exceeds epochs 2"),
        ("objects: [2, 6]", "objects: [6, 2]", "should be [fewest, most]"),
        ("block: -2", "block: 0", "figures.attention_maps.block: 0 is not a block"),
        ("head: 0", "head: 4", "figures.attention_maps.head: 4 is not a head"),
        ("{image: 0", "{image: 32", "must be smaller than analysis.images"),
        (
            "method: simmim",
            "method: sim_mim",
            "models.simmim.objective.method: there is no objective 'sim_mim'; did you mean",
        ),
        ("method: simmim\n", "methode: simmim\n", "models.simmim.objective.method: this key is missing"),
        ("study: smoke", "study: demo", "study is 'demo', but the file is named 'smoke'"),
    ],
)
def test_wrong_value_is_named(smoke, old, new, message) -> None:
    with pytest.raises(UserError) as error:
        load_study(smoke(old, new))
    assert message in str(error.value)


def test_all_problems_are_listed_at_once(smoke, tmp_path: Path) -> None:
    path = smoke("seed: 2023", "sed: 2023")
    path.write_text(path.read_text().replace("mask_ratio: 0.6", "mask_ratio: 6"))
    with pytest.raises(UserError) as error:
        load_study(path)
    assert "data.sed" in str(error.value)
    assert "models.simmim.objective.mask_ratio" in str(error.value)


def test_a_key_that_stands_twice_is_refused(smoke) -> None:
    with pytest.raises(UserError, match="occurs twice"):
        load_study(smoke("seed: 2023", "seed: 2023\n  seed: 2024"))


def test_a_model_may_take_over_the_keys_of_another_and_write_some_anew(smoke) -> None:
    anchored = smoke("  hybrid_05:\n", "  hybrid_05: &hybrid\n")
    text = anchored.read_text().replace("\nanalysis:", "  more: {<<: *hybrid, label: more, seeds: [0, 1]}\n\nanalysis:")
    anchored.write_text(text)
    models = load_study(anchored).models
    assert (models["more"].label, models["more"].seeds) == ("more", [0, 1])
    assert models["more"].objective == models["hybrid_05"].objective and models["hybrid_05"].seeds == [0]
    anchored.write_text(text.replace("label: more", "label: more, label: more"))
    with pytest.raises(UserError, match="occurs twice"):
        load_study(anchored)


def test_fewer_untrained_seeds_than_trained_ones_are_warned_of(smoke, root: Path, capsys) -> None:
    load_study(smoke("control_seeds: [0]", "control_seeds: [0, 1]"))
    load_study(root / "config" / "smoke.yaml")
    assert capsys.readouterr().err == ""
    load_study(smoke("seeds: [0]", "seeds: [0, 1]"))
    assert "analysis.control_seeds: 1 for 2 seeds of models.moco_v3" in capsys.readouterr().err


@pytest.mark.parametrize("study", ["demo", "overnight", "paper"])
def test_studies_that_judge_have_as_many_untrained_seeds_as_the_audit_asks_for(root: Path, study: str) -> None:
    loaded, rule = load_study(root / "config" / f"{study}.yaml"), load_claims(root / "config" / "claims.yaml").rule
    assert len(loaded.analysis.control_seeds) >= rule.least_control_seeds and not loaded.doubts()


def test_missing_file_lists_the_studies_at_hand(root: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; studies at hand: demo, overnight, paper, quick, smoke$"):
        load_study(root / "config" / "nosuch.yaml")


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "smoke.yaml"
    path.write_text("study: [smoke")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_study(path)


def test_sections_are_frozen_and_their_digest_sees_every_value(smoke) -> None:
    study = load_study(smoke())
    changed = load_study(smoke("temperature: 0.2", "temperature: 0.1"))
    seen = [one.models["moco_v3"].model_dump(mode="json") for one in (study, changed)]
    assert [one["objective"].pop("temperature") for one in seen] == [0.2, 0.1] and seen[0] == seen[1]
    for one in (study, changed):
        for model in one.models.values():
            canonical = json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
            assert model.digest() == hashlib.sha256(canonical.encode()).hexdigest()
    with pytest.raises(Exception, match="frozen"):
        study.data.seed = 3


def test_digest_does_not_depend_on_layout_or_written_out_defaults(smoke, tmp_path: Path) -> None:
    study = load_study(smoke())
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=True))
    assert load_study(path).digest() == study.digest()


def test_reading_a_study_does_not_wait_for_timm(root: Path) -> None:
    """Each command and each start of Snakemake reads one; timm and torchvision take seconds to import."""
    code = (
        "import sys; from pathlib import Path; from cl_vs_mim.config import load_study; load_study(Path(sys.argv[1]));"
    )
    code += "print(*sorted({'timm', 'torchvision', 'transformers', 'matplotlib'} & set(sys.modules)))"
    words = [sys.executable, "-c", code, str(root / "config" / "demo.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
