"""Checkpoints: the original answers, other shapes, strictness, safety, our own files."""

from __future__ import annotations

import itertools
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.encoder.checkpoints import load_encoder, read_header, save_encoder
from cl_vs_mim.encoder.families.vit import ViT
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.encoder.resize import at_grid
from random_checkpoints import Shape, container, encoder_state, plain_forward

ORACLES = Path(__file__).parent / "oracles"
FAMILIES = ("moco_v3", "simmim", "mae", "dino", "beit")
SMALL = Shape()
MICRO = {"img_size": 32, "patch_size": 8, "num_heads": 3}


def sizes(shape: Shape) -> dict[str, int]:
    return {"img_size": shape.image, "patch_size": shape.patch, "num_heads": shape.heads}


def written(tmp_path: Path, family: str, shape: Shape = SMALL, seed: int = 0, **changes) -> tuple[Path, dict]:
    state = encoder_state(family, shape, seed)
    path = tmp_path / f"{family}.pth"
    content = container(family, state, **changes)
    torch.save(content, path)
    return path, state


# ------------------------------------------------------------------------------------------------
# Answers
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_original_code_gives_the_same_states_and_attentions(family):
    encoder = load_encoder(ORACLES / f"{family}.pth", family, **MICRO)
    expected = np.load(ORACLES / f"{family}_expected.npz")
    images = torch.from_numpy(expected["image"])
    states, attentions = encoder.states(images), encoder.attentions(images)
    assert not encoder.training
    assert (len(states), len(attentions)) == (7, 3)
    for index, state in enumerate(states):
        np.testing.assert_allclose(state, expected[f"state_{index:02}"], rtol=1e-4, atol=1e-5)
    for index, attention in enumerate(attentions):
        np.testing.assert_allclose(attention, expected[f"attention_{index:02}"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.norm(states[-1]).detach(), expected["final_norm"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder(images).detach(), expected["final_norm"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [
        SMALL,
        Shape(image=32, patch=16, width=48, depth=1, heads=12, hidden=65),  # many heads, odd MLP ratio
        Shape(image=20, patch=2, width=8, depth=4, heads=1, hidden=8),
        Shape(image=8, patch=8, width=12, depth=2, heads=6, hidden=30),  # one patch
    ],
)
@pytest.mark.parametrize("family", [*FAMILIES, "timm"])
def test_other_shapes_follow_the_equations(tmp_path, family, shape):
    path, state = written(tmp_path, family, shape, seed=shape.width)
    encoder = load_encoder(path, family, **sizes(shape))
    images = torch.randn(2, 3, shape.image, shape.image, generator=torch.Generator().manual_seed(1))
    states, attentions, final = plain_forward(state, shape, images)
    for found, wanted in zip(
        [*encoder.states(images), *encoder.attentions(images), encoder(images)],
        [*states, *attentions, final],
        strict=True,
    ):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=2e-5)
    assert encoder.spec.depth == shape.depth and encoder.spec.width == shape.width


def test_the_head_count_changes_the_answer_and_only_the_caller_knows_it(tmp_path):
    path, _ = written(tmp_path, "moco_v3")
    images = torch.randn(1, 3, 24, 24)
    three = load_encoder(path, "moco_v3", img_size=24, patch_size=4, num_heads=3)(images)
    six = load_encoder(path, "moco_v3", img_size=24, patch_size=4, num_heads=6)(images)
    assert not torch.allclose(three, six, atol=1e-2)


def test_moco_without_the_module_prefix_gives_the_base_encoder(tmp_path):
    path, state = written(tmp_path, "moco_v3", module=False)
    encoder = load_encoder(path, "moco_v3", **sizes(SMALL))
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("layer_scale", [True, False])
def test_layer_scale_is_there_when_the_file_has_it(tmp_path, layer_scale):
    shape, images = SMALL, torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(4))
    state = encoder_state("timm", shape, 0)
    beit = encoder_state("beit", shape, 0)
    for block in range(shape.depth):
        for half in (1, 2):
            if layer_scale:
                state[f"blocks.{block}.ls{half}.gamma"] = torch.randn(shape.width)
            else:
                del beit[f"blocks.{block}.gamma_{half}"]
    for family, tensors in (("timm", state), ("beit", beit)):
        torch.save(container(family, tensors), tmp_path / "x.pth")
        encoder = load_encoder(tmp_path / "x.pth", family, **sizes(shape))
        if family == "timm" or not layer_scale:
            assert (encoder.spec.layer_scale is not None) == layer_scale
        torch.testing.assert_close(
            encoder(images), plain_forward(tensors, shape, images)[2].float(), rtol=1e-4, atol=2e-5
        )


@pytest.mark.parametrize(("family", "positions"), [("moco_v3", "sincos"), ("mae", "sincos"), ("dino", "learned")])
def test_the_kind_of_positions_is_recognised(family, positions):
    encoder = load_encoder(ORACLES / f"{family}.pth", family, **MICRO)
    assert encoder.spec.positions == positions
    assert encoder.backbone.pos_embed.requires_grad == (positions == "learned")


def test_timm_reads_safetensors_and_half_precision(tmp_path):
    shape = SMALL
    state = {name: tensor.half() for name, tensor in encoder_state("timm", shape, 0).items()}
    save_file(state, tmp_path / "x.safetensors")
    encoder = load_encoder(tmp_path / "x.safetensors", "timm", **sizes(shape))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.backbone.cls_token, state["cls_token"].float())


# How the same encoders lie in other files: (file, format)
OTHERS = [
    ("dino_full", "dino"),
    ("ibot", "ibot"),
    ("beit_1k", "beit"),
    ("mae_encoder", "mae"),
    ("openmmlab", "openmmlab"),
    ("openmmlab_beit", "openmmlab_beit"),
]


@pytest.mark.parametrize(("file", "format_"), OTHERS)
def test_other_published_forms_follow_the_equations(tmp_path, file, format_):
    path, state = written(tmp_path, file, seed=3)
    encoder = load_encoder(path, format_, **sizes(SMALL))
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    states, attentions, final = plain_forward(state, SMALL, images)
    for found, wanted in zip(
        [*encoder.states(images), *encoder.attentions(images), encoder(images)],
        [*states, *attentions, final],
        strict=True,
    ):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=2e-5)
    assert (encoder.spec.layer_scale is not None) == (file == "openmmlab_beit")


def test_openmmlab_keeps_layer_scale(tmp_path):
    state = encoder_state("openmmlab", SMALL, 0)
    content = container("openmmlab", state)
    for block in range(SMALL.depth):
        for half, place in ((1, "attn"), (2, "ffn")):
            gamma = torch.full((SMALL.width,), 0.1 * half)
            content["state_dict"][f"backbone.layers.{block}.{place}.gamma{half}.weight"] = gamma
    torch.save(content, tmp_path / "x.pth")
    encoder = load_encoder(tmp_path / "x.pth", "openmmlab", **sizes(SMALL))
    assert torch.equal(encoder.backbone.blocks[1].ls2.gamma, torch.full((24,), 0.2))


def test_the_teacher_and_not_the_student_is_dinos_encoder(tmp_path):
    path, state = written(tmp_path, "dino_full")
    assert torch.equal(load_encoder(path, "dino", **sizes(SMALL)).backbone.cls_token, state["cls_token"])


def test_a_bare_backbone_of_ibot_is_under_state_dict(tmp_path):
    torch.save({"state_dict": encoder_state("ibot", SMALL, 0)}, tmp_path / "x.pth")
    assert load_encoder(tmp_path / "x.pth", "ibot", **sizes(SMALL)).spec.positions == "learned"


@pytest.mark.parametrize("positions", ["relative", "learned"])
def test_both_kinds_of_beit_take_other_grids(tmp_path, positions):
    path, _ = written(tmp_path, "beit" if positions == "relative" else "beit_1k")
    encoder = load_encoder(path, "beit", **sizes(SMALL))
    assert encoder.spec.positions == positions
    assert at_grid(encoder, 3)(torch.randn(1, 3, 12, 12)).shape == (1, 10, 24)


# ------------------------------------------------------------------------------------------------
# Strictness
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "asked", "said"),
    [
        ("dino_full", "moco_v3", "dino"),
        ("dino_full", "timm", "dino"),
        ("moco_v3", "dino", "moco_v3"),
        ("mae", "simmim", "mae"),
        ("simmim", "beit", "simmim"),
        ("openmmlab", "mae", "openmmlab"),
        ("beit_1k", "mae", "beit"),
        ("dino", "native", "dino"),
        ("moco_v3", "native", "moco_v3"),
    ],
)
def test_a_checkpoint_of_another_form_says_which_it_is(tmp_path, file, asked, said):
    path, _ = written(tmp_path, file)
    stated = {} if asked == "native" else sizes(SMALL)
    with pytest.raises(UserError, match=rf"its form is that of format: .*\b{said}\b"):
        load_encoder(path, asked, **stated)


def test_positions_of_both_kinds_are_refused(tmp_path):
    state = encoder_state("beit", SMALL, 0) | {"pos_embed": torch.zeros(1, 37, 24)}
    torch.save(container("beit", state), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"absolute positions .* and relative ones"):
        load_encoder(tmp_path / "x.pth", "beit", **sizes(SMALL))


def test_an_encoder_that_is_looked_into_wrongly_is_refused(tmp_path, monkeypatch):
    path, _ = written(tmp_path, "dino")
    monkeypatch.setattr(ViT, "residual", lambda self, block, half, update: 1.001 * update)
    with pytest.raises(UserError, match=r"what is seen inside this vit is not what the network computes"):
        load_encoder(path, "dino", **sizes(SMALL))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_size": 40}, r"4x4|5x5"),
        ({"patch_size": 16}, r"8x8 px, but patch_size=16"),
        ({"num_heads": 5}, r"width 24 .* num_heads=5"),
        ({"img_size": 33}, r"img_size=33 is not a multiple of patch_size=8"),
        ({"num_heads": None}, r"give num_heads"),
    ],
)
def test_sizes_that_contradict_the_tensors_are_refused_with_both_numbers(family, change, message):
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(ORACLES / f"{family}.pth", family, **MICRO | change)
    assert f"{family}.pth" in str(caught.value)


@pytest.mark.parametrize("family", ["simmim", "beit"])
def test_the_relative_bias_knows_the_head_count(family):
    with pytest.raises(UserError, match=r"for 3 heads, but num_heads=4"):
        load_encoder(ORACLES / f"{family}.pth", family, **MICRO | {"num_heads": 4})


@pytest.mark.parametrize("family", [*FAMILIES, "timm"])
def test_a_missing_and_an_unknown_tensor_are_both_named(tmp_path, family):
    shape = SMALL
    state = encoder_state(family, shape, 0)
    del state["blocks.1.mlp.fc2.bias"]
    state["blocks.1.extra.weight"] = torch.zeros(2, 5)
    torch.save(container(family, state), tmp_path / "x.pth")
    with pytest.raises(UserError) as caught:
        load_encoder(tmp_path / "x.pth", family, **sizes(shape))
    assert "- blocks.1.mlp.fc2.bias (24,)" in str(caught.value)
    assert "+ blocks.1.extra.weight (2, 5)" in str(caught.value)


def test_a_tensor_beside_the_encoder_is_only_dropped_when_it_is_known(tmp_path):
    content = container("moco_v3", encoder_state("moco_v3", SMALL, 0))
    content["state_dict"]["module.queue"] = torch.zeros(3)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"\+ module\.queue \(3,\)"):
        load_encoder(tmp_path / "x.pth", "moco_v3", **sizes(SMALL))


def test_another_numbering_of_relative_positions_is_refused(tmp_path):
    state = encoder_state("beit", SMALL, 0)
    state["rel_pos_bias.relative_position_index"] = state["rel_pos_bias.relative_position_index"].T.contiguous()
    torch.save(container("beit", state), tmp_path / "x.pth")
    with pytest.raises(UserError, match="another order"):
        load_encoder(tmp_path / "x.pth", "beit", **sizes(SMALL))


def test_a_table_of_each_block_is_read_as_such(tmp_path):
    """SimMIM and BEiT publish fine-tuned encoders so; with the same table in each it is the encoder that shares it."""
    path, state = written(tmp_path, "beit", SMALL, seed=0)
    shared = load_encoder(path, "beit", **sizes(SMALL))
    ends = ("relative_position_bias_table", "relative_position_index")
    parts = {end: state.pop(f"rel_pos_bias.{end}") for end in ends}
    for block in range(SMALL.depth):
        state |= {f"blocks.{block}.attn.{end}": part.clone() for end, part in parts.items()}
    torch.save(container("beit", state), tmp_path / "own.pth")
    own = load_encoder(tmp_path / "own.pth", "beit", **sizes(SMALL))
    assert (shared.spec.positions, own.spec.positions) == ("relative", "relative_by_block")
    images = torch.randn(2, 3, SMALL.image, SMALL.image, generator=torch.Generator().manual_seed(1))
    for found, wanted in zip(
        [own(images), *own.states(images), *own.attentions(images)],
        [shared(images), *shared.states(images), *shared.attentions(images)],
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    state["blocks.1.attn.relative_position_bias_table"] += 1.0 + torch.rand(parts[ends[0]].shape)
    torch.save(container("beit", state), tmp_path / "other.pth")
    other = load_encoder(tmp_path / "other.pth", "beit", **sizes(SMALL))
    assert torch.equal(other.attentions(images)[0], own.attentions(images)[0])
    assert not torch.allclose(other.attentions(images)[1], own.attentions(images)[1])
    save_encoder(tmp_path / "native.safetensors", other, {})
    assert torch.equal(load_encoder(tmp_path / "native.safetensors", "native")(images), other(images))
    torch.save(container("beit", state | {f"rel_pos_bias.{ends[0]}": parts[ends[0]]}), tmp_path / "both.pth")
    with pytest.raises(UserError, match="of each block beside shared ones"):
        load_encoder(tmp_path / "both.pth", "beit", **sizes(SMALL))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("reg_token", "register tokens"),
        ("fc_norm.weight", "after the pooling"),
        ("norm_pre.weight", "before the blocks"),
        ("blocks.0.attn.q_norm.weight", "normalised queries"),
    ],
)
def test_parts_that_are_not_supported_are_named(tmp_path, name, part):
    torch.save(encoder_state("timm", SMALL, 0) | {name: torch.zeros(4)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=part):
        load_encoder(tmp_path / "x.pth", "timm", **sizes(SMALL))


@pytest.mark.parametrize(("file", "family"), list(itertools.permutations(FAMILIES, 2)))
def test_one_family_is_not_read_as_another(file, family):
    with pytest.raises(UserError):
        load_encoder(ORACLES / f"{file}.pth", family, **MICRO)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = encoder_state("dino", SMALL, 0)
    state["norm.bias"][3] = torch.nan
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"norm\.bias holds NaN"):
        load_encoder(tmp_path / "x.pth", "dino", **sizes(SMALL))


# ------------------------------------------------------------------------------------------------
# Safety
# ------------------------------------------------------------------------------------------------


class Trap:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


class ExecTrap(Trap):
    def __reduce__(self):
        return (exec, (f"import os; os.mkdir({str(self.path)!r})",))


@pytest.mark.parametrize("trap", [Trap, ExecTrap])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "legacy", "protocol2", "protocol4"])
def test_nothing_in_a_file_is_run(tmp_path, trap, form):
    evidence, path = tmp_path / "evidence", tmp_path / "trap.pth"
    content = {"state_dict": encoder_state("moco_v3", SMALL, 0), "config": trap(evidence)}
    if form in ("zip", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    else:
        path.write_bytes(pickle.dumps({"config": trap(evidence)}, protocol=int(form[-1])))
    with pytest.raises(UserError, match=r"trap\.pth is (refused: it asks to call|not a checkpoint)"):
        load_encoder(path, "moco_v3", **MICRO)
    assert not evidence.exists()
    if form == "zip":  # the trap is a real one
        torch.load(path, weights_only=False)
        assert evidence.exists()


def test_stand_ins_are_allowed_only_while_a_file_is_read():
    before = torch.serialization.get_safe_globals()  # torch adds some of its own
    load_encoder(ORACLES / "simmim.pth", "simmim", **MICRO)
    assert set(torch.serialization.get_safe_globals()) == set(before)


@pytest.mark.parametrize("length", [0, 7, 1000, 60_000, -200])
def test_a_truncated_file_is_named(tmp_path, length):
    path = tmp_path / "cut.pth"
    path.write_bytes((ORACLES / "dino.pth").read_bytes()[:length])
    with pytest.raises(UserError, match=r"cut\.pth .* fetch it again"):
        load_encoder(path, "dino", **MICRO)


def test_garbage_is_named(tmp_path):
    path = tmp_path / "noise.pth"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(UserError, match=r"noise\.pth"):
        load_encoder(path, "mae", **MICRO)


def test_a_flipped_bit_is_noticed(tmp_path):
    content = bytearray((ORACLES / "dino.pth").read_bytes())
    content[60_000] ^= 1
    (tmp_path / "flip.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"checksum of dino/data/\d+ does not match"):
        load_encoder(tmp_path / "flip.pth", "dino", **MICRO)


def test_sha256_is_checked_before_anything_is_parsed(tmp_path):
    path, _ = written(tmp_path, "dino")
    load_encoder(path, "dino", **sizes(SMALL), sha256=sha256_file(path).upper())
    (tmp_path / "noise.pth").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"sha256"):
        load_encoder(tmp_path / "noise.pth", "dino", **sizes(SMALL), sha256="0" * 64)


def test_a_missing_file_and_an_unknown_family_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist"):
        load_encoder(tmp_path / "nowhere.pth", "mae", **MICRO)
    with pytest.raises(UserError, match=r"'mocov3'.*moco_v3"):
        load_encoder(ORACLES / "mae.pth", "mocov3", **MICRO)


# ------------------------------------------------------------------------------------------------
# Our own files
# ------------------------------------------------------------------------------------------------

VIT = EncoderSpec("vit", image_size=24, patch_size=4, width=24, depth=2, heads=3)
BEIT = EncoderSpec("beit", 24, 4, 24, 2, 3, mlp_ratio=2.5, positions="relative", layer_scale=0.1, drop_path=0.1)


@pytest.mark.parametrize("spec", [VIT, BEIT])
def test_native_files_return_the_same_encoder_and_its_provenance(tmp_path, spec):
    encoder, path = build_encoder(spec, seed=3), tmp_path / "x.safetensors"
    metadata = {"method": "moco_v3", "seed": 3, "nested": {"steps": [1, 2]}}
    save_encoder(path, encoder, metadata)
    loaded = load_encoder(path, "native")
    assert loaded.spec == spec and not loaded.training
    assert read_header(path) == (spec, metadata)
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[name], tensor), name
    save_encoder(tmp_path / "y.safetensors", encoder, metadata)
    assert (tmp_path / "y.safetensors").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.safetensors", "y.safetensors"]


def test_float16_halves_the_file_and_keeps_sincos_positions(tmp_path):
    encoder = build_encoder(VIT, seed=0)
    save_encoder(tmp_path / "full.safetensors", encoder, {})
    save_encoder(tmp_path / "half.safetensors", encoder, {}, dtype=torch.float16)
    half = load_encoder(tmp_path / "half.safetensors", "native")
    stored = load_file(tmp_path / "half.safetensors")
    assert {name for name, tensor in stored.items() if tensor.dtype != torch.float16} == {"pos_embed"}
    assert torch.equal(half.backbone.pos_embed, encoder.backbone.pos_embed)
    weight = encoder.backbone.blocks[1].mlp.fc1.weight
    assert torch.equal(half.backbone.blocks[1].mlp.fc1.weight, weight.half().float())
    assert {p.dtype for p in half.parameters()} == {torch.float32}


def test_native_arguments_are_checked_against_the_header(tmp_path):
    path = tmp_path / "x.safetensors"
    save_encoder(path, build_encoder(VIT, seed=0), {})
    load_encoder(path, "native", img_size=24, patch_size=4, num_heads=3)
    for argument, stated in (("img_size", 24), ("patch_size", 4), ("num_heads", 3)):
        with pytest.raises(UserError, match=rf"{argument}=6 was given, but the file states {stated}"):
            load_encoder(path, "native", **{argument: 6})


def test_native_files_that_are_damaged_or_foreign_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_encoder(path, build_encoder(VIT, seed=0), {})
    for length in (0, 5, 300, path.stat().st_size - 8):
        (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:length])
        with pytest.raises(UserError, match=r"cut\.safetensors"):
            load_encoder(tmp_path / "cut.safetensors", "native")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="no cl_vs_mim header"):
        load_encoder(tmp_path / "foreign.safetensors", "native")


def test_a_diverged_encoder_is_not_saved(tmp_path):
    encoder = build_encoder(VIT, seed=0)
    encoder.backbone.cls_token.data[:] = 1e6  # finite, but not in float16
    with pytest.raises(UserError, match="cls_token"):
        save_encoder(tmp_path / "x.safetensors", encoder, {}, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_an_official_encoder_survives_conversion(tmp_path):
    encoder = load_encoder(ORACLES / "simmim.pth", "simmim", **MICRO)
    save_encoder(tmp_path / "x.safetensors", encoder, {"source": "oracle"})
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_encoder(tmp_path / "x.safetensors", "native")(images), encoder(images))


def test_the_epsilon_of_the_layer_norms_can_be_stated_and_must_agree_with_a_native_file(tmp_path):
    path = ORACLES / "mae.pth"
    assert load_encoder(path, "mae", **MICRO).spec.layer_norm_eps == 1e-6
    encoder = load_encoder(path, "mae", **MICRO, layer_norm_eps=1e-2)
    assert encoder.spec.layer_norm_eps == encoder.norm.eps == encoder.backbone.blocks[0].norm1.eps == 1e-2
    save_encoder(tmp_path / "e.safetensors", encoder, {})
    assert load_encoder(tmp_path / "e.safetensors", "native", layer_norm_eps=1e-2).norm.eps == 1e-2
    with pytest.raises(UserError, match=r"layer_norm_eps=1e-06 was given, but the file states 0\.01"):
        load_encoder(tmp_path / "e.safetensors", "native", layer_norm_eps=1e-6)
