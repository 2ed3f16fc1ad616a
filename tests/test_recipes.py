"""The full-scale recipes are valid, name their source, cover every method, and make up the paper's study."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from checkout import STUDIES
from cl_vs_mim.config import Model, load_study
from cl_vs_mim.config.expansion import expand
from cl_vs_mim.config.objective import OBJECTIVES
from cl_vs_mim.encoder.masks import blockwise_mask
from cl_vs_mim.encoder.model import build_encoder

CONFIG = Path(__file__).parent.parent / "config"
RECIPES = sorted((CONFIG / "recipes").glob("*.yaml"))
TRANSFER = sorted((CONFIG / "recipes" / "transfer").glob("*.yaml"))


def model(path: Path) -> Model:
    return Model.model_validate(expand({"model": {"like": f"recipes/{path.stem}"}}, CONFIG)["model"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_valid_model_with_its_source(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.stem.startswith(model(path).objective.method)
    assert text.startswith("# ") and "epochs" in text.splitlines()[0]


def test_every_method_has_one() -> None:
    named = {model(path).objective.method for path in RECIPES}
    assert named == set(OBJECTIVES.names()) - {"vq_tokenizer"}  # ours; it has no published recipe


def test_the_paper_study_takes_over_every_one() -> None:
    models = load_study(CONFIG / "paper.yaml").models
    for path in RECIPES:
        taken = models[path.stem].model_copy(update={"label": model(path).label})
        assert taken == model(path)


def test_recipes_come_to_the_values_of_the_originals() -> None:
    """What their code makes of the published arguments (section 9 of the specification)."""
    models = load_study(CONFIG / "paper.yaml").models
    dino, beit, simmim = (models[name] for name in ("dino", "beit", "simmim"))
    rate = dino.training.base_lr * dino.training.batch_size / dino.training.lr_batch
    assert rate == pytest.approx(7.5e-4 * 1024 / 256), "rate x batch / 256"
    mask = blockwise_mask(1, 14, beit.objective.mask_ratio, beit.objective.least_block, None)
    assert int(mask.sum()) == 75
    assert (dino.training.clip_norm, dino.objective.clip_each) == (None, 0.3)
    assert load_study(CONFIG / "paper.yaml").architectures[dino.architecture].positions == "learned"
    assert [view.interpolation for view in simmim.objective.views] == ["bilinear"]


@pytest.mark.parametrize(
    ("recipe", "decayed", "spared"),
    [
        ("simmim", {"relative_position_bias_table", "mask_token"}, {"cls_token"}),
        ("beit", {"relative_position_bias_table", "mask_token"}, {"cls_token"}),
        ("mae", {"cls_token", "mask_token"}, set()),
        ("dino", {"cls_token", "pos_embed", "prototypes"}, set()),
    ],
)
def test_what_decays_is_what_the_originals_decay(recipe: str, decayed: set[str], spared: set[str]) -> None:
    """Groups of a small encoder under the full recipe's rule (section 9 of the specification)."""
    made = model(CONFIG / "recipes" / f"{recipe}.yaml")
    kind = load_study(CONFIG / "paper.yaml").architectures[made.architecture]
    small = kind.model_copy(update={"width": 48, "depth": 2, "heads": 3, "image_size": 64, "patch_size": 16})
    reduced = {"mae": {"decoder_width": 48, "decoder_depth": 1, "decoder_heads": 3}}.get(recipe, {})
    reduced |= {"dino": {"hidden": 16, "bottleneck": 8, "prototypes": 32}, "beit": {"codes": 8}}.get(recipe, {})
    config = made.objective.model_copy(update=reduced)
    objective = OBJECTIVES[made.objective.method](build_encoder(small.spec(), seed=0), config)
    names = {id(parameter): name.rpartition(".")[2] for name, parameter in objective.named_parameters()}
    matrices = [
        (names[id(parameter)], group["weight_decay"])
        for group in objective.parameter_groups(0.05)
        for parameter in group["params"]
        if parameter.ndim > 1
    ]
    assert {name for name, decay in matrices if decay == 0} == spared
    assert decayed <= {name for name, decay in matrices if decay > 0}


def test_what_nobody_asks_for_is_no_part_of_what_decides() -> None:
    """So that trainings of studies without these keys keep the names of their run folders."""
    for study in STUDIES:
        if study == "paper":  # asks for them
            continue
        for one in load_study(CONFIG / f"{study}.yaml").models.values():
            if one.objective is None:
                continue
            assert "decays" not in str(one.objective.decides()) and "clip_each" not in str(one.objective.decides())


@pytest.mark.parametrize("path", TRANSFER, ids=lambda path: path.stem)
def test_a_transfer_recipe_is_valid_and_says_where_it_is_from(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    kind = {"coco": "detection", "augmented": "augmented_probe"}.get(path.stem.split("_")[0], path.stem)
    raw = yaml.safe_load((CONFIG / "paper.yaml").read_text(encoding="utf-8"))
    raw["transfer"] = {kind: {"like": f"recipes/transfer/{path.stem}"}}
    (tmp_path / "recipes").symlink_to(CONFIG / "recipes")
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert getattr(load_study(tmp_path / "paper.yaml").transfer, kind) is not None
