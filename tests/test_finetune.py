"""Fine-tuning and the augmented probe: what is trained, how fast, what is answered, and that it survives a pause."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from cl_vs_mim.config import Architecture
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.encoder.model import Encoder, EncoderSpec, build_encoder
from cl_vs_mim.pretrain import loop
from cl_vs_mim.pretrain.interrupt import PAUSED
from cl_vs_mim.pretrain.trainer import make_optimizer
from cl_vs_mim.transfer import commands
from cl_vs_mim.transfer.augmented_probe.settings import AugmentedProbe
from cl_vs_mim.transfer.augmented_probe.train import Probed
from cl_vs_mim.transfer.dense import DenseEncoder
from cl_vs_mim.transfer.finetuning.settings import FineTuning
from cl_vs_mim.transfer.finetuning.train import FineTuned, build_classifier
from cl_vs_mim.transfer.layers import with_drop_path
from test_linear_probe import CATEGORIES, write_data
from workplace import Workplace

SHAPE = {"image_size": 48, "patch_size": 12, "width": 16, "depth": 3, "heads": 2}
TRAINING = {
    **{"epochs": 12, "warmup_epochs": 1, "batch_size": 12, "base_lr": 4e-3, "lr_batch": 12, "weight_decay": 0.0},
    **{"checkpoint_steps": 7, "log_steps": 2},
}
VIEW = {"crop_scale": [0.6, 1.0]}


def encoder(family: str = "vit", **spec) -> Encoder:
    more = {"vit": {"positions": "sincos"}, "beit": {"positions": "relative", "layer_scale": 0.1}}[family]
    return build_encoder(EncoderSpec(family=family, **SHAPE, **more, **spec), 0)


def tuning(**options) -> FineTuning:
    given = {"labels": "class", "layer_decay": 0.5, "mixup": 0, "cutmix": 0, "views": [VIEW], "training": TRAINING}
    return FineTuning.model_validate(given | options)


def probing(**options) -> AugmentedProbe:
    given = {"labels": "class", "views": [VIEW], "training": TRAINING | {"optimizer": "sgd", "base_lr": 1.0}}
    return AugmentedProbe.model_validate(given | options)


# ------------------------------------------------------------------------------------------------
# The classifiers
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["vit", "beit"])
def test_rates_fall_from_layer_to_layer(family: str) -> None:
    tuned = FineTuned(encoder(family), tuning(), classes=5)
    groups = tuned.parameter_groups(0.1)
    scale = {id(parameter): group.get("lr_scale", 1.0) for group in groups for parameter in group["params"]}
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    backbone = tuned.encoder.backbone
    assert scale[id(backbone.patch_embed.proj.weight)] == 0.5**4
    for block in range(3):
        assert scale[id(backbone.blocks[block].mlp.fc1.weight)] == 0.5 ** (3 - block)
    assert (scale[id(backbone.norm.weight)], scale[id(tuned.head.weight)]) == (0.5, 1)
    assert decay[id(tuned.head.weight)] == decay[id(backbone.blocks[0].mlp.fc1.weight)] == 0.1
    assert (
        decay[id(tuned.head.bias)] == decay[id(backbone.blocks[0].norm1.weight)] == decay[id(backbone.cls_token)] == 0
    )
    trained = {id(parameter) for parameter in tuned.parameters() if parameter.requires_grad}
    assert set(scale) == trained, "every trained weight is in one group"
    assert len(scale) == sum(len(group["params"]) for group in groups)


@pytest.mark.parametrize("family", ["vit", "beit"])
def test_the_top_learns_at_the_full_rate_where_the_original_has_it_so(family: str) -> None:
    """SimMIM's code (section 9 of the specification): last norm and shared positions as the head, and these decay."""
    plain, original = (FineTuned(encoder(family), tuning(original_layers=one), classes=5) for one in (False, True))
    held = {}
    for name, tuned in (("plain", plain), ("original", original)):
        groups = tuned.parameter_groups(0.1)
        names = {id(parameter): key for key, parameter in tuned.encoder.backbone.named_parameters()}
        held[name] = {
            names[id(parameter)]: (group.get("lr_scale", 1.0), group["weight_decay"])
            for group in groups
            for parameter in group["params"]
            if id(parameter) in names
        }
    changed = {key: held["original"][key] for key in held["plain"] if held["plain"][key] != held["original"][key]}
    norms = {"norm.weight": (1.0, 0.0), "norm.bias": (1.0, 0.0)}
    table = {"rel_pos_bias.relative_position_bias_table": (1.0, 0.1)} if family == "beit" else {}
    assert held["plain"].keys() == held["original"].keys() and changed == norms | table


def test_each_block_trains_its_own_positions_where_the_original_does() -> None:
    """SimMIM's code (section 9 of the specification): copies of the shared table, each at the rate of its block."""
    shared, training = encoder("beit"), tuning(original_layers=True, positions_by_block=True)
    with torch.no_grad():
        shared.backbone.rel_pos_bias.relative_position_bias_table.normal_(generator=torch.Generator().manual_seed(0))
    beit = Architecture(label="x", family="beit", positions="relative", layer_scale=0.1, **SHAPE)
    tuned = build_classifier(shared, beit, training, 5, 0).eval()
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(tuned.encoder(images), shared.eval()(images), rtol=1e-4, atol=1e-5)
    for size in (48, 72):
        pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(2))
        mine, theirs = (DenseEncoder(one, (2,))(pixels)[0] for one in (tuned.encoder, shared))
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    groups = tuned.parameter_groups(0.1)
    held = {id(p): (group.get("lr_scale", 1.0), group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(held) == sum(len(group["params"]) for group in groups)
    for block in range(3):
        table = tuned.encoder.blocks[block].attn.relative_position_bias_table
        assert held[id(table)] == (0.5 ** (3 - block), 0.1)
    vit = Architecture(label="x", family="vit", positions="sincos", **SHAPE)
    plain = build_classifier(encoder("vit"), vit, training, 5, 0)
    assert plain.encoder.spec.positions == "sincos", "what has no such table stays as it is"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_logits_are_those_of_the_pooled_tokens(pooling: str) -> None:
    images = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    tuned = FineTuned(encoder(), tuning(pooling=pooling), classes=5).eval()
    tokens = tuned.encoder(images)
    pooled = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(1)
    torch.testing.assert_close(tuned.logits(images), F.linear(pooled, tuned.head.weight, tuned.head.bias))


@pytest.mark.parametrize("depth", [1, -1])
def test_a_probe_reads_the_block_it_names_and_leaves_the_encoder_alone(depth: int) -> None:
    images = torch.randn(6, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    whole = encoder("beit").eval()
    probe = Probed(whole, probing(depth=depth, final_norm=False), classes=5).train()
    states = whole.states(images)
    expected = states[2 * (depth if depth > 0 else 3)][:, 1:].mean(1)
    torch.testing.assert_close(probe.features(images), expected, rtol=1e-4, atol=1e-5)
    before = {name: weight.clone() for name, weight in whole.state_dict().items()}
    probe([images], None, torch.arange(6) % 5).loss.backward()
    assert [name for name, weight in probe.named_parameters() if weight.grad is not None] == [
        "head.weight",
        "head.bias",
    ]
    assert not whole.training and all(torch.equal(before[name], weight) for name, weight in whole.state_dict().items())
    assert probe.norm.num_batches_tracked == 1


def test_running_means_follow_and_are_what_is_asked() -> None:
    tuned = FineTuned(encoder(), tuning(ema=0.75), classes=5)
    start = tuned.head.weight.detach().clone()
    with torch.no_grad():
        tuned.head.weight += 1.0
    tuned.after_step(0.5)
    torch.testing.assert_close(tuned.mean_head.weight, start + 0.25)
    images = torch.randn(2, 3, 48, 48)
    assert not torch.allclose(tuned.eval().logits(images), tuned.head(tuned.encoder(images)[:, 1:].mean(1)))


def test_stochastic_depth_changes_no_weight() -> None:
    given = encoder()
    architecture = Architecture(label="x", family="vit", positions="sincos", **SHAPE)
    dropping = with_drop_path(given, architecture, 0.3)
    assert dropping.spec.drop_path == 0.3
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(dropping.eval()(images), given.eval()(images))
    assert not torch.allclose(dropping.train()(images), given(images))


# ------------------------------------------------------------------------------------------------
# The command
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Images of one colour each."""
    return write_data(tmp_path_factory.mktemp("finetune") / "objects")


@pytest.fixture
def workplace(workplace: Workplace, data: Path) -> Workplace:
    workplace.shape(**SHAPE)
    workplace.study["transfer"] = {
        "finetuning": tuning().model_dump(mode="json"),
        "augmented_probe": probing().model_dump(mode="json"),
    }
    workplace.options["data"] = data
    spec = EncoderSpec(family="vit", positions="sincos", **SHAPE)
    save_encoder(workplace.folder / "moco.safetensors", build_encoder(spec, 3), {"model": "moco_v3"})
    return workplace


def run(
    workplace: Workplace, protocol: str, name: str = "one", model: str = "moco_v3", **options: object
) -> pd.DataFrame:
    """The predictions of an encoder that was trained on, or of a probe of it."""
    folder = workplace.folder
    given: dict[str, object] = {"runs": folder / f"runs_{name}", "tables": folder / name}
    if model == "moco_v3":
        given["encoder"] = folder / "moco.safetensors"
    if protocol == "finetuning":
        given |= {"tuned": folder / f"{name}.safetensors", "log_table": folder / f"{name}.csv"}
    command = {"finetuning": commands.finetune, "augmented_probe": commands.augmented_probe}[protocol]
    workplace.call(command, f"{model}_seed0", **given | options)
    return read_table(folder / name / protocol / f"{model}_seed0.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["finetuning", "augmented_probe"])
def test_colours_are_learned_and_predictions_are_rows(workplace: Workplace, protocol: str) -> None:
    table = run(workplace, protocol, name=protocol)
    assert table["value"].mean() >= 0.9, "five colours"
    assert len(table) == 2 * len(CATEGORIES) and set(table["split"]) == {"val"}
    assert set(HEAD) <= set(table.columns)
    constants = table.iloc[0]
    assert (constants["protocol"], constants["metric"], constants["labels"], constants["depth"]) == (
        *(protocol, "top1", "class"),
        3,
    )
    assert constants["chance"] == pytest.approx(0.2) and constants["classes"] == 5
    assert constants["parameters"] == sum(weight.numel() for weight in encoder().parameters())


def test_a_pause_changes_nothing(workplace: Workplace, monkeypatch) -> None:
    run(workplace, "finetuning", name="whole")
    ticks = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_agreed", lambda *_: next(ticks) == 10)
        with pytest.raises(SystemExit) as stopped:
            run(workplace, "finetuning", name="paused")
    assert stopped.value.code == PAUSED and not (workplace.folder / "paused").exists()
    run(workplace, "finetuning", name="paused")
    whole, paused = (load_file(workplace.folder / f"{name}.safetensors") for name in ("whole", "paused"))
    assert all(torch.equal(whole[name], paused[name]) for name in whole)


def test_controls_are_trained_from_their_seed_and_categories_reach_the_held_out(workplace: Workplace) -> None:
    workplace.study["transfer"]["finetuning"] |= {"labels": "category"}
    table = run(workplace, "finetuning", name="control", model="untrained_vit")
    assert set(table["split"]) == {"val", "heldout"} and set(table["paradigm"]) == {"control"}


def test_what_the_study_does_not_have_is_named(workplace: Workplace) -> None:
    del workplace.study["transfer"]["augmented_probe"]
    with pytest.raises(UserError, match=r"has no transfer\.augmented_probe; add it to its YAML"):
        run(workplace, "augmented_probe")


@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw"])
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    settings = probing(training=TRAINING | {"optimizer": optimizer})
    probe = Probed(encoder().eval(), settings, classes=5)
    chosen = make_optimizer(probe.parameter_groups(0.0), settings.training)
    for group in chosen.param_groups:
        group["lr"] = {"sgd": 0.5, "lars": 5.0, "adamw": 0.05}[optimizer]
    images = torch.randn(10, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(20):
        chosen.zero_grad()
        loss = probe([images], None, torch.arange(10) % 5).loss
        loss.backward()
        chosen.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
