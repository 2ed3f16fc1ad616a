"""timm's plain ViTs by their names: what is seen inside, tokens without a place, files, refusals, and the study."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file
from timm.layers import apply_rot_embed_cat
from timm.models import create_model, list_models, model_entrypoint

from cl_vs_mim.analysis.extract import measure
from cl_vs_mim.config import load_study
from cl_vs_mim.config.encoders import decides_encoder, pretrained_runs, recorded_runs
from cl_vs_mim.config.tasks import study_tasks
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder import Encoder, EncoderSpec, build_encoder
from cl_vs_mim.encoder.checkpoints import load_encoder, read_header, save_encoder, timm_files
from cl_vs_mim.encoder.checkpoints.agreement import relative_difference
from cl_vs_mim.encoder.checkpoints.containers import containers
from cl_vs_mim.encoder.checkpoints.timm_files import fetched, load_timm, read_timm
from cl_vs_mim.encoder.families.timm_vit import PLAIN, create
from cl_vs_mim.encoder.pooling import require_pooling
from cl_vs_mim.encoder.resize import at_grid
from cl_vs_mim.evaluated import depth_features
from cl_vs_mim.metrics import attention_distance
from cl_vs_mim.pretrain.commands import import_encoder
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.transfer.dense import DenseEncoder
from workplace import Workplace

CLS, REGISTERS = ("cls",), tuple(f"register {number}" for number in (1, 2, 3, 4))
# variant -> epsilon of its LayerNorms, the tokens before its patches
VARIANTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "vit_small_patch16_224": (1e-6, CLS),
    "deit_small_distilled_patch16_224": (1e-6, ("cls", "distillation")),
    "deit3_small_patch16_224": (1e-6, CLS),
    "vit_small_patch14_dinov2": (1e-6, CLS),
    "vit_small_patch14_reg4_dinov2": (1e-6, (*CLS, *REGISTERS)),
    "vit_giant_patch14_dinov2": (1e-6, CLS),
    "vit_small_patch16_dinov3": (1e-5, (*CLS, *REGISTERS)),
    "vit_huge_plus_patch16_dinov3": (1e-5, (*CLS, *REGISTERS)),
    "vit_base_patch16_clip_quickgelu_224": (1e-5, CLS),
    "vit_base_patch16_siglip_224": (1e-6, ()),
    "vit_medium_patch16_reg4_gap_256": (1e-6, REGISTERS),
    "eva_giant_patch14_224": (1e-6, CLS),
    "eva02_base_patch14_224": (1e-6, CLS),
    "vit_small_patch16_rope_mixed_224": (1e-6, CLS),
    "eva02_enormous_patch14_clip_224": (1e-6, CLS),
    "beit_base_patch16_224": (1e-6, CLS),
    "beit3_base_patch16_224": (1e-5, CLS),
}
TINY = EncoderSpec(
    "timm_vit", image_size=24, patch_size=4, width=24, depth=2, heads=3, positions="variant", variant="test_vit"
)


def tiny(variant: str, **fields: Any) -> EncoderSpec:
    return replace(TINY, variant=variant, layer_norm_eps=VARIANTS[variant][0], **fields)


def shaken(spec: EncoderSpec) -> Encoder:
    """An encoder all of whose weights count."""
    encoder = build_encoder(spec, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return encoder


IMAGES = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(2))


# ------------------------------------------------------------------------------------------------
# What is seen inside
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_what_is_seen_inside_is_what_the_network_computes(variant):
    encoder = shaken(tiny(variant))
    assert encoder.prefix == VARIANTS[variant][1]
    assert encoder.has_cls == ("cls" in encoder.prefix)
    states, maps = encoder.states(IMAGES), encoder.attentions(IMAGES)
    wanted = encoder.backbone.forward_features(IMAGES)
    assert wanted.shape[1] == len(encoder.prefix) + 36
    wanted = encoder.cls_and_patches(wanted)
    assert {state.shape for state in states} == {(2, 37, 24)} and {one.shape for one in maps} == {(2, 3, 37, 37)}
    for found in (encoder.norm(states[-1]), encoder(IMAGES)):
        assert relative_difference(found, wanted, encoder) < 1e-5
    for half, whole in zip(states[2::2], encoder.block_states(IMAGES)[1:], strict=True):
        assert relative_difference(half, whole, encoder) < 1e-5
    patches = torch.stack(maps)[..., 1:, 1:]
    assert torch.isfinite(patches).all() and (patches >= 0).all() and (patches.sum(-1) <= 1 + 1e-5).all()
    assert torch.isnan(states[0][:, 0]).all() == (not encoder.has_cls)


@pytest.mark.parametrize(
    "variant", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "deit3_small_patch16_224"]
)
@torch.no_grad()
def test_maps_outputs_and_halves_of_a_block_follow_the_equations(variant):
    encoder = shaken(tiny(variant))
    tokens, block, prefix = encoder.embed(IMAGES), encoder.blocks[0], len(encoder.prefix)
    trace = next(encoder.trace(tokens))
    qkv = F.linear(block.norm1(tokens), block.attn.qkv.weight, block.attn.qkv.bias)
    q, k, v = qkv.unflatten(2, (3, 3, 8)).permute(2, 0, 3, 1, 4)
    rope = encoder.family.bias(encoder.backbone, 6, 6)
    if rope is not None:  # only patches have a place, and so a rotation
        q, k = (
            torch.cat([x[:, :, :prefix], apply_rot_embed_cat(x[:, :, prefix:], rope, half=True)], dim=2) for x in (q, k)
        )
    attention = (q @ k.mT / 8**0.5).softmax(-1)
    kept = [0, *range(prefix, prefix + 36)]
    torch.testing.assert_close(trace.attention, attention[:, :, kept][..., kept])
    outputs = attention @ v
    torch.testing.assert_close(trace.head_outputs, outputs[:, :, kept])
    gamma = block.ls1.gamma if hasattr(block, "ls1") else block.gamma_1
    after = tokens + gamma * block.attn.proj(outputs.transpose(1, 2).flatten(2))
    torch.testing.assert_close(trace.after_attention, after[:, kept])


def test_looking_leaves_the_network_as_it_was():
    encoder = build_encoder(tiny("vit_small_patch16_dinov3", drop_path=0.5), seed=0).train()
    seen = [encoder.states(IMAGES)[-1] for _ in range(2)]
    assert torch.equal(*seen), "stochastic depth is off while it is looked at"
    assert (
        encoder.blocks[1].training and encoder.blocks[1].attn.fused_attn and encoder.blocks[1].attn.attn_drop.training
    )
    assert not any(module._forward_pre_hooks for module in encoder.backbone.modules())


# ------------------------------------------------------------------------------------------------
# Tokens without a place
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224"])
def test_every_metric_is_of_patches_only(variant):
    encoder = shaken(tiny(variant))
    pixels = torch.randint(256, (4, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    found = measure(encoder, iter([pixels[:3], pixels[3:]]), list("abcd"), "test")
    distances, _ = found.result("attention_distance")  # (M, L, H); a value that is not finite would have been refused
    assert distances.shape == (4, 2, 3)
    with torch.no_grad():
        inside = encoder.family.look(
            encoder.blocks[0], encoder.embed(IMAGES), encoder.family.bias(encoder.backbone, 6, 6), 3
        ).attention
    patches = len(encoder.prefix)
    without = F.pad(inside[..., patches:, patches:], (1, 0, 1, 0))  # the same maps with a CLS that nobody looks at
    torch.testing.assert_close(
        attention_distance(encoder.attentions(IMAGES)[0], 4), attention_distance(without, 4), rtol=1e-5, atol=1e-5
    )


def test_an_encoder_without_cls_has_no_features_of_it():
    encoder = shaken(tiny("vit_base_patch16_siglip_224"))
    features = depth_features(encoder, torch.zeros(2, 3, 24, 24, dtype=torch.uint8))
    assert features.shape == (2, 3, 2, 24) and torch.isfinite(features).all()
    assert not features[:, :, 0].any() and features[:, :, 1].any()
    require_pooling(encoder, "mean")
    with pytest.raises(UserError, match="vit_base_patch16_siglip_224 has no CLS token; give pooling: mean"):
        require_pooling(encoder, "cls")


def test_images_are_normalised_as_the_encoder_has_them():
    plain = shaken(tiny("vit_base_patch16_siglip_224"))
    half = Encoder(plain.backbone, replace(plain.spec, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.5, 0.5, 0.5)))
    pixels = torch.rand(2, 3, 24, 24)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(half((pixels - mean) / std)[:, 1:], plain(pixels * 2 - 1)[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "variant", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "beit_base_patch16_224"]
)
def test_other_grids(variant):
    encoder = shaken(tiny(variant))
    larger = at_grid(encoder, 8)
    assert larger(torch.randn(1, 3, 32, 32)).shape == (1, 65, 24)
    assert torch.equal(at_grid(encoder, 6)(IMAGES)[:, 1:], encoder(IMAGES)[:, 1:])


def test_dense_tasks_are_refused():
    with pytest.raises(UserError, match="images of other sizes"):
        DenseEncoder(build_encoder(tiny("vit_small_patch14_dinov2"), seed=0), [1])


# ------------------------------------------------------------------------------------------------
# Refusals
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "hierarchical"),
        ("maxvit_tiny_tf_224", "hierarchical"),
        ("samvit_base_patch16", "windowed"),
        ("naflexvit_base_patch16_gap", "timm.models.naflexvit"),
        ("vit_base_patch16_18x2_224", "attention and MLP are not one after the other"),
        ("vit_small_patch16_2224", "did you mean 'vit_small_patch16_224'"),
    ],
)
def test_what_cannot_be_looked_into_is_refused_with_the_reason(variant, reason):
    with pytest.raises(UserError, match=reason):
        build_encoder(replace(TINY, variant=variant), seed=0)


@pytest.mark.slow
@torch.no_grad()
def test_every_plain_vit_of_timm_is_looked_into_rightly_or_refused():
    names = [name for name in list_models() if model_entrypoint(name).__module__.rpartition(".")[2] in PLAIN]
    refused, images = {}, torch.randn(1, 3, 16, 16)
    for name in names:
        spec = replace(TINY, variant=name, image_size=16)
        try:
            try:
                encoder = shaken(spec)
            except UserError as error:
                if "layer_norm_eps 1e-05" not in str(error):
                    raise
                encoder = shaken(replace(spec, layer_norm_eps=1e-5))
        except UserError as error:
            refused[name] = str(error)
            continue
        wanted = encoder.cls_and_patches(encoder.backbone.forward_features(images))
        assert relative_difference(encoder.norm(encoder.states(images)[-1]), wanted, encoder) < 1e-5, name
    assert len(names) > 200 and len(refused) < 15, refused  # Sapiens2 has its heads by depth, which is not ours here
    assert all("one after the other" in why or "sapiens2" in name for name, why in refused.items()), refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"variant": None}, "needs a variant"),
        ({"variant": "hf-hub:someone/model"}, "timm's name of an architecture"),
        ({"variant": "local-dir:/etc"}, "timm's name of an architecture"),
        ({"layer_scale": 0.1}, "layer_scale: leave it out"),
        ({"positions": "learned"}, "does not take positions"),
        ({"pixel_mean": (0.5, 0.5, 0.5)}, "one needs the other"),
        ({"pixel_mean": (0.5, 0.5), "pixel_std": (0.5, 0.5, 0.5)}, "three numbers"),
        ({"pixel_mean": (0.5, 0.5, 0.5), "pixel_std": (0.5, 0.0, 0.5)}, "pixel_std should be a number from"),
    ],
)
def test_a_specification_that_is_none_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **fields)


def test_an_epsilon_that_is_not_the_networks_is_refused():
    with pytest.raises(UserError, match="vit_small_patch16_dinov3 has layer_norm_eps 1e-05, but 1e-06 is stated"):
        build_encoder(replace(TINY, variant="vit_small_patch16_dinov3"), seed=0)


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_native_file_and_a_file_of_timm_give_the_same_encoder(tmp_path, variant):
    encoder = shaken(tiny(variant))
    save_encoder(tmp_path / "native.safetensors", encoder, {"seed": 0})
    again = load_encoder(tmp_path / "native.safetensors", "native")
    assert again.spec == encoder.spec and again.prefix == encoder.prefix
    state = {f"module.{name}": tensor for name, tensor in encoder.backbone.state_dict().items()}
    state |= {"module.head.weight": torch.ones(5, 24), "module.head.bias": torch.zeros(5)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "timm.pth")
    read = read_timm(tmp_path / "timm.pth", encoder.spec)
    for other in (again, read):
        assert torch.equal(other(IMAGES)[:, 1:], encoder(IMAGES)[:, 1:])


def test_a_native_header_cannot_have_anything_fetched(tmp_path):
    encoder = build_encoder(TINY, seed=0)
    save_encoder(tmp_path / "x.safetensors", encoder, {})
    content = (tmp_path / "x.safetensors").read_bytes()
    for name in (b"hf-hub:a", b"a/b/../c", b"resnet50"):
        (tmp_path / "y.safetensors").write_bytes(content.replace(b"test_vit", name))
        with pytest.raises(UserError, match=r"y\.safetensors"):
            load_encoder(tmp_path / "y.safetensors", "native")


def test_names_of_the_publishers_are_read_where_timm_knows_them(tmp_path):
    dinov2 = shaken(tiny("vit_small_patch14_reg4_dinov2"))
    state = dinov2.backbone.state_dict()
    registers, places = state.pop("reg_token"), state.pop("pos_embed")
    cls = torch.randn(1, 1, 24)
    state |= {"register_tokens": registers, "mask_token": torch.zeros(1, 24)}
    state |= {"pos_embed": torch.cat([cls, places], dim=1), "cls_token": state["cls_token"] - cls}
    torch.save(state, tmp_path / "dinov2.pth")
    found = read_timm(tmp_path / "dinov2.pth", dinov2.spec)
    torch.testing.assert_close(found(IMAGES), dinov2(IMAGES), rtol=1e-4, atol=1e-5)

    deit = shaken(tiny("deit3_small_patch16_224"))
    state = {name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): tensor
             for name, tensor in deit.backbone.state_dict().items()}  # fmt: skip
    torch.save({"model": state}, tmp_path / "deit.pth")
    assert torch.equal(read_timm(tmp_path / "deit.pth", deit.spec)(IMAGES), deit(IMAGES))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks.1.norm2.bias": None}, r"- blocks\.1\.norm2\.bias"),
        ({"blocks.1.extra": torch.zeros(3)}, r"\+ blocks\.1\.extra"),
        ({"pos_embed": torch.zeros(1, 50, 24), "register_tokens": torch.zeros(1)}, "another grid than 6x6"),
        ({"patch_embed.proj.weight": torch.zeros(24, 3, 8, 8), "x": torch.zeros(1)}, r"patches are \(8, 8\) px"),
        ({"norm.bias": torch.full((24,), torch.nan)}, "holds NaN"),
    ],
)
def test_a_file_of_another_network_is_refused(tmp_path, change, said):
    encoder = build_encoder(TINY, seed=0)
    state = {name: tensor for name, tensor in (encoder.backbone.state_dict() | change).items() if tensor is not None}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match=said):
        read_timm(tmp_path / "x.pth", TINY)


def test_an_encoder_that_is_looked_into_wrongly_is_refused(tmp_path, monkeypatch):
    torch.save(build_encoder(TINY, seed=0).backbone.state_dict(), tmp_path / "x.pth")
    looked = type(TINY_FAMILY).look

    def wrong(self, block, tokens, bias, heads):
        inside = looked(self, block, tokens, bias, heads)
        return inside._replace(after_mlp=inside.after_mlp * torch.linspace(1, 1.01, 24))

    monkeypatch.setattr(type(TINY_FAMILY), "look", wrong)
    with pytest.raises(UserError, match="what is seen inside this test_vit is not what the network computes"):
        read_timm(tmp_path / "x.pth", TINY)


TINY_FAMILY = build_encoder(TINY, seed=0).family

# ------------------------------------------------------------------------------------------------
# Tags, and the study
# ------------------------------------------------------------------------------------------------

TAG = "test_vit3.r160_in1k"  # timm's own miniature: attention pooling, a register, 0.5 as mean and deviation
HALF = [0.5, 0.5, 0.5]
MINIATURE = {
    **{"label": "miniature", "family": "timm_vit", "variant": "test_vit3", "image_size": 160, "patch_size": 16},
    **{"width": 96, "depth": 9, "heads": 3, "positions": "variant", "pixel_mean": HALF, "pixel_std": HALF},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """As timm distributes it, with random weights."""
    torch.manual_seed(0)
    network = create_model("test_vit3", pretrained=False)
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    return path


def studied(workplace: Workplace, timm: dict[str, Any], **edits: Any) -> Path:
    workplace.study["architectures"]["miniature"] = MINIATURE | edits
    workplace.study["models"]["simmim"] |= {"architecture": "miniature", "objective": None, "training": None}
    workplace.study["models"]["simmim"] |= {"timm": {"tag": TAG, "method": "supervised", **timm}, "seeds": [0]}
    return workplace.config()


def test_a_model_of_a_study_is_taken_by_its_tag(workplace: Workplace, file: Path) -> None:
    config = studied(workplace, {"file": str(file)})
    study = load_study(config)
    assert "simmim_seed0" not in pretrained_runs(study) and "simmim_seed0" not in recorded_runs(study)
    assert study.models["simmim"].checkpoint_file("simmim", 0) == file
    assert decides_encoder(study, "simmim_seed0")["timm"] == {"method": "supervised", "tag": TAG}
    output = workplace.folder / "x.safetensors"
    import_encoder(config=config, run="simmim_seed0", checkpoint=file, output=output)
    spec, made = read_header(output)
    assert (made["method"], made["origin"]["timm"]) == ("supervised", TAG)
    assert (spec.variant, spec.pixel_std) == ("test_vit3", (0.5, 0.5, 0.5))
    encoder = load_encoder(output, "native")
    assert encoder.prefix == ("register 1",)
    network = create_model("test_vit3", pretrained=False).eval()
    network.load_state_dict(load_file_of(file))
    pixels = torch.rand(1, 3, 160, 160)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        wanted = network.forward_features(2 * pixels - 1)[:, 1:]
        torch.testing.assert_close(encoder((pixels - mean) / std)[:, 1:], wanted, rtol=1e-3, atol=1e-4)


def load_file_of(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_pretrained_comes_from_the_hub_and_is_opened_as_any_file(workplace: Workplace, file: Path, monkeypatch) -> None:
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *names: asked.append(names) or str(file))
    config, output = studied(workplace, {"pretrained": True}), workplace.folder / "x.safetensors"
    assert load_study(config).models["simmim"].checkpoint_file("simmim", 0) is None
    import_encoder(config=config, run="simmim_seed0", output=output)
    assert asked == [(f"timm/{TAG}", "model.safetensors")] and output.exists()

    def offline(*names: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(
        UserError, match=r"cannot be fetched \(no network\); fetch it elsewhere and give it as timm.file"
    ):
        fetched(TAG)


def test_all_that_differs_from_the_tag_is_listed_before_anything_is_fetched(workplace: Workplace, monkeypatch) -> None:
    monkeypatch.setattr(timm_files, "fetched", lambda tag: pytest.fail("fetched"))
    config = studied(
        workplace, {"pretrained": True}, heads=6, image_size=224, pixel_mean=None, pixel_std=None, layer_norm_eps=1e-5
    )
    with pytest.raises(UserError) as caught:
        import_encoder(config=config, run="simmim_seed0", output=workplace.folder / "x.safetensors")
    said = str(caught.value)
    for line in ("image_size: 160, not 224", "heads: 3, not 6", "layer_norm_eps: 1e-06, not 1e-05"):
        assert line in said
    assert "pixel_mean: [0.5, 0.5, 0.5], not [0.485, 0.456, 0.406]" in said and "width" not in said


def test_an_unknown_tag_is_named_with_the_nearest(file: Path) -> None:
    spec = replace(TINY, variant="test_vit3")
    with pytest.raises(UserError, match=r"no pretrained 'test_vit3\.r16_in1k'; did you mean 'test_vit3\.r160_in1k'"):
        load_timm(file, spec, "test_vit3.r16_in1k")


@pytest.mark.parametrize(
    ("timm", "said"),
    [
        ({}, "pretrained: true, or the path of a file"),
        ({"pretrained": True, "file": "x"}, "one of the two"),
        ({"file": "x", "tag": "test_vit3"}, "models.simmim.timm.tag"),
        ({"file": "x", "tag": "hf-hub:a/b"}, "models.simmim.timm.tag"),
        ({"file": "{run}"}, "stands for nothing"),
    ],
)
def test_a_source_that_is_none_is_refused(workplace: Workplace, timm: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_study(studied(workplace, timm))


def test_two_sources_are_refused(workplace: Workplace) -> None:
    studied(workplace, {"file": "x"})
    workplace.study["models"]["simmim"]["checkpoint"] = {"file": "y", "method": "simmim"}
    with pytest.raises(UserError, match="no checkpoint, objective or training"):
        load_study(workplace.config())


def test_what_older_studies_say_of_an_architecture_is_unchanged(workplace: Workplace) -> None:
    study = load_study(workplace.config())
    plain = json.dumps(study.architectures["vit"].model_dump(mode="json")) + json.dumps(TINY.to_dict())
    assert "pixel_mean" not in plain and study.architectures["vit"].spec().to_dict().keys() == {
        *("family", "image_size", "patch_size", "width", "depth", "heads", "mlp_ratio", "positions"),
        *("layer_scale", "layer_norm_eps", "drop_path"),
    }


def test_nothing_but_a_name_of_timm_is_built() -> None:
    with pytest.raises(UserError, match="timm has no architecture"):
        create("hf-hub:timm/test_vit")


def test_dense_tasks_of_a_study_are_refused_where_they_are_planned(workplace: Workplace) -> None:
    architecture = workplace.study["architectures"]["beit"]
    for name in ("layer_scale", "mlp_ratio"):
        architecture.pop(name, None)
    architecture |= {"family": "timm_vit", "variant": "beit_base_patch16_224", "positions": "variant"}
    study = load_study(workplace.config())
    with pytest.raises(UserError, match="simmim is of family timm_vit, whose encoders take images of their own size"):
        study_tasks(study)


def test_a_contrast_needs_cls(workplace: Workplace) -> None:
    sizes = {"image_size": 24, "patch_size": 4, "width": 24, "depth": 3, "heads": 3, "positions": "variant"}
    architecture = {"label": "x", "family": "timm_vit", "variant": "vit_base_patch16_siglip_224", **sizes}
    workplace.study["architectures"]["siglip"] = architecture
    workplace.study["models"]["moco_v3"]["architecture"] = "siglip"
    study = load_study(workplace.config())
    with pytest.raises(UserError, match="no CLS token"):
        build_objective(study.models["moco_v3"], study.architectures["siglip"], seed=0)


# ------------------------------------------------------------------------------------------------
# What the documentation says
# ------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation_is_what_timm_says(root: Path, workplace: Workplace) -> None:
    section = (root / "docs" / "training.md").read_text(encoding="utf-8").split("### By its name in timm")[1]
    example = yaml.safe_load(section.split("```yaml\n")[1].split("```")[0])
    for kind, entries in example.items():
        workplace.study[kind] |= entries
    study = load_study(workplace.config())
    for name in example["models"]:
        model = study.models[name]
        timm_files.require_own(study.architectures[model.architecture].spec(), model.timm.tag)


def test_the_documentation_lists_every_form_of_a_file(root: Path) -> None:
    page = (root / "docs" / "training.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| `(\w+)` \|$", page, re.MULTILINE))
    assert listed.pop("format") == "family"
    assert listed == {name: one.family for name, one in containers().items()}
