"""Encoders from files: taken as they are, and only if they are what the study says; and handed on in half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cl_vs_mim.analysis.commands import card
from cl_vs_mim.config import load_study
from cl_vs_mim.config.encoders import decides_encoder, pretrained_runs, trained_runs
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, read_header, save_encoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.metrics import attention_distance, attention_entropy, normalized_mutual_information
from cl_vs_mim.pretrain.commands import export_weights, import_encoder
from cl_vs_mim.pretrain.registry import build_objective
from random_checkpoints import Shape, container, encoder_state
from workplace import Workplace

RUN = "simmim_seed0"


@pytest.fixture
def trained(workplace: Workplace) -> Path:
    """SimMIM with weights that are far from their first ones, as training exports it."""
    study = load_study(workplace.config())
    model = study.models["simmim"]
    objective = build_objective(model, study.architectures[model.architecture], seed=0)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    made = {"model": "simmim", "method": "simmim", "seed": 0, "steps": 10, "precision": "32-true", "git_commit": "abc"}
    path = workplace.folder / "trained.safetensors"
    save_encoder(path, objective.encoder, made, decoder=objective.export_decoder())
    return path


@pytest.fixture
def exported(workplace: Workplace, trained: Path) -> Path:
    path = workplace.folder / "weights" / f"{RUN}.safetensors"
    export_weights(config=workplace.config(), run=RUN, encoder=trained, output=path)
    return path


def taken(workplace: Workplace, file: Path, **edits: Any) -> Path:
    """The study's SimMIM from a file, as the command writes it."""
    workplace.study["models"]["simmim"] |= {"checkpoint": {"file": str(file)}, **edits}
    output = workplace.folder / "encoders" / f"{RUN}.safetensors"
    import_encoder(config=workplace.config(), run=RUN, checkpoint=file, output=output)
    return output


# ------------------------------------------------------------------------------------------------
# Handing on, and taking
# ------------------------------------------------------------------------------------------------


def test_half_precision_changes_no_metric_by_a_thousandth(workplace: Workplace, trained: Path, exported: Path) -> None:
    assert exported.stat().st_size < 0.6 * trained.stat().st_size
    before, after = load_encoder(trained, "native"), load_encoder(taken(workplace, exported), "native")
    size = before.spec.image_size
    images = torch.randn(4, 3, size, size)
    with torch.inference_mode():
        for one, other in zip(before.attentions(images), after.attentions(images), strict=True):
            for metric in (attention_entropy, normalized_mutual_information):
                torch.testing.assert_close(metric(one), metric(other), rtol=0, atol=1e-3)
            distances = [attention_distance(maps, patch_size=before.spec.patch_size) for maps in (one, other)]
            torch.testing.assert_close(*distances, rtol=1e-3, atol=0)


def test_what_is_taken_says_where_it_comes_from(workplace: Workplace, exported: Path) -> None:
    output = taken(workplace, exported)
    _, made = read_header(output)
    assert (made["model"], made["seed"], made["method"]) == ("simmim", 0, "simmim")
    origin = made["origin"]
    assert origin["git_commit"] == "abc" and origin["file"] == exported.name
    batch = workplace.study["models"]["simmim"]["training"]["batch_size"]
    assert origin["images"] == 10 * batch
    assert origin["recipe"]["objective"]["mask_ratio"] == workplace.study["models"]["simmim"]["objective"]["mask_ratio"]
    load_decoder(output, "native", load_encoder(output, "native"))


def test_the_card_states_how_the_weights_were_made(workplace: Workplace, exported: Path) -> None:
    path = exported.with_suffix(".md")
    card(config=workplace.config(), run=RUN, weights=exported, tables=workplace.folder / "none", output=path)
    _, front, text = path.read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "cl-vs-mim"
    assert "mask_ratio" in text and "abc" in text and "measured" not in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe == read_header(exported)[1]["recipe"]


def test_a_card_of_other_weights_is_refused(workplace: Workplace, trained: Path) -> None:
    output = workplace.folder / "card.md"
    with pytest.raises(UserError, match="export-weights"):
        card(config=workplace.config(), run=RUN, weights=trained, tables=workplace.folder, output=output)
    assert not output.exists()


@pytest.mark.parametrize(
    ("file", "format_", "architecture"),
    [
        ("moco_v3", "moco_v3", "vit"),
        ("mae_encoder", "mae", "vit"),
        ("dino", "dino", "vit"),
        ("dino_full", "dino", "vit"),
        ("ibot", "ibot", "vit"),
        ("timm", "timm", "vit"),
        ("openmmlab", "openmmlab", "vit"),
        ("simmim", "simmim", "beit"),
        ("beit", "beit", "beit"),
        ("beit_1k", "beit", "beit"),
        ("openmmlab_beit", "openmmlab_beit", "beit"),
    ],
)
def test_every_published_container_is_a_source(
    workplace: Workplace, file: str, format_: str, architecture: str
) -> None:
    shape = Shape(image=48, patch=8, width=64, depth=3, heads=4, hidden=256)  # the smoke study's
    path = workplace.folder / f"{file}.pth"
    torch.save(container(file, encoder_state(file, shape, seed=0)), path)
    edits: dict[str, Any] = {"positions": "learned"} if file == "beit_1k" or architecture == "vit" else {}
    edits |= {"layer_scale": None} if file == "beit_1k" else {}
    workplace.study["architectures"][architecture] |= edits
    source = {"file": str(path), "format": format_, "method": "something"}
    no_recipe = {"objective": None, "training": None, "architecture": architecture}
    output = taken(workplace, path, checkpoint=source, **no_recipe)
    spec, made = read_header(output)
    assert spec == load_study(workplace.config()).architectures[architecture].spec()
    assert made["origin"]["format"] == format_


@pytest.mark.parametrize("method", ["simmim", "mae"])
def test_a_published_decoder_comes_along_where_the_study_says_how_it_paints(workplace: Workplace, method: str) -> None:
    path = Path(__file__).parent / "oracles" / f"{method}.pth"
    workplace.shape(image_size=32, patch_size=8, width=24, depth=3, heads=3)
    model = workplace.study["models"][method] | {
        "training": None,
        "architecture": "beit" if method == "simmim" else "vit",
    }
    if method == "mae":
        model["objective"] |= {"decoder_heads": 2, "norm_pix": False}
    source = {"checkpoint": {"file": str(path), "format": method}}
    workplace.study["models"]["simmim"] |= model | {"paradigm": "mim"} | source
    output = taken(workplace, path, **source)
    encoder = load_encoder(output, "native")
    decoder = load_decoder(output, "native", encoder)
    assert decoder.spec.method == method
    if method == "mae":
        assert (decoder.spec.heads, decoder.spec.norm_pix) == (2, False)


def test_images_of_a_published_encoder_are_normalised_as_the_study_says(workplace: Workplace) -> None:
    path = workplace.folder / "beit.pth"
    shape = Shape(image=48, patch=8, width=64, depth=3, heads=4, hidden=256)
    torch.save(container("beit", encoder_state("beit", shape, seed=0)), path)
    workplace.study["architectures"]["beit"] |= {"pixel_mean": [0.5, 0.5, 0.5], "pixel_std": [0.5, 0.5, 0.5]}
    no_recipe = {"objective": None, "training": None, "architecture": "beit"}
    output = taken(workplace, path, checkpoint={"file": str(path), "format": "beit", "method": "beit"}, **no_recipe)
    assert load_encoder(output, "native").spec.pixel_std == (0.5, 0.5, 0.5)


# ------------------------------------------------------------------------------------------------
# Refusals
# ------------------------------------------------------------------------------------------------


def _other_ratio(study: dict[str, Any]) -> None:
    study["models"]["simmim"]["objective"]["mask_ratio"] = 0.3


def _other_epochs(study: dict[str, Any]) -> None:
    study["models"]["simmim"]["training"]["epochs"] += 1


def _other_depth(study: dict[str, Any]) -> None:
    study["architectures"]["beit"]["heads"] = 1


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_other_ratio, r"recipe.objective.mask_ratio: 0\.6 in the file, 0\.3 in the study"),
        (_other_epochs, r"recipe.training.epochs: \d+ in the file, \d+ in the study"),
        (_other_depth, r"not of architecture 'beit': heads \d+ instead of 1"),
    ],
)
def test_an_encoder_made_otherwise_is_refused(
    workplace: Workplace, exported: Path, edit: Callable[[dict[str, Any]], None], said: str
) -> None:
    edit(workplace.study)
    with pytest.raises(UserError, match=said):
        taken(workplace, exported)
    assert not (workplace.folder / "encoders").exists()


def test_an_encoder_of_another_method_is_refused(workplace: Workplace, exported: Path) -> None:
    workplace.study["models"]["simmim"]["objective"] = None
    workplace.study["models"]["simmim"]["training"] = None
    with pytest.raises(UserError, match="method: 'simmim' in the file, 'beit' in the study"):
        taken(workplace, exported, checkpoint={"file": str(exported), "method": "beit"})


def test_a_model_that_the_study_trains_is_taken_from_nowhere(workplace: Workplace, exported: Path) -> None:
    with pytest.raises(UserError, match="takes simmim_seed0 from no checkpoint"):
        import_encoder(config=workplace.config(), run=RUN, checkpoint=exported, output=workplace.folder / "x")


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"training": None}, "training: needed for training"),
        ({"objective": None, "checkpoint": {"file": "x"}}, "checkpoint.method: say how the encoder was trained"),
        ({"checkpoint": {"file": "x", "method": "mae"}}, "'mae', but objective.method is 'simmim'"),
        ({"checkpoint": {"file": "x"}, "seeds": [0, 1]}, "one file for several seeds"),
        ({"checkpoint": {"file": "{run}"}}, "{run} stands for nothing"),
        ({"checkpoint": {"file": "{seed"}}, "is not a path"),
    ],
)
def test_a_source_that_is_no_source_is_refused(workplace: Workplace, edits: dict[str, Any], said: str) -> None:
    workplace.study["models"]["simmim"] |= edits
    with pytest.raises(UserError, match=r"models\.simmim") as error:
        load_study(workplace.config())
    assert said in str(error.value)


# ------------------------------------------------------------------------------------------------
# The study
# ------------------------------------------------------------------------------------------------


def test_a_model_from_a_checkpoint_needs_no_recipe_and_is_not_trained(workplace: Workplace) -> None:
    workplace.study["models"]["simmim"] |= {
        "objective": None,
        "training": None,
        "checkpoint": {"file": "weights/{model}_seed{seed}.safetensors", "method": "simmim"},
        "seeds": [0, 1],
    }
    study = load_study(workplace.config())
    assert study.models["simmim"].checkpoint_file("simmim", 1) == Path("weights/simmim_seed1.safetensors")
    runs = {"simmim_seed0", "simmim_seed1"}
    assert runs <= set(trained_runs(study)) and not runs & set(pretrained_runs(study))
    assert decides_encoder(study, "simmim_seed1")["checkpoint"] == {"method": "simmim", "format": "native"}


# ------------------------------------------------------------------------------------------------
# Labels that the file does not bear out
# ------------------------------------------------------------------------------------------------


def test_a_published_container_of_another_method_is_refused(workplace: Workplace) -> None:
    model = workplace.study["models"]["simmim"]
    for key in ("objective", "training"):
        model.pop(key)
    model["checkpoint"] = {"file": "a.pth", "format": "moco_v3", "method": "simmim"}
    with pytest.raises(UserError, match=r"published as 'moco_v3' is labelled 'simmim'"):
        load_study(workplace.config())


def test_a_plain_vit_labelled_simmim_is_noticed(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    model = workplace.study["models"]["simmim"]
    vit = load_study(workplace.config()).architectures["vit"].spec()
    file = workplace.folder / "vit.pth"
    torch.save(build_encoder(vit, seed=0).backbone.state_dict(), file)
    for key in ("objective", "training"):
        model.pop(key)
    model |= {"architecture": "vit", "checkpoint": {"file": str(file), "format": "timm", "method": "simmim"}}
    output = workplace.folder / "taken.safetensors"
    import_encoder(config=workplace.config(), run=RUN, checkpoint=file, output=output)
    said = capsys.readouterr().err
    assert "of family 'vit', and is labelled 'simmim', whose published ones are of family 'beit'" in said
