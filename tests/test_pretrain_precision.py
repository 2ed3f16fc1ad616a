"""What makes a training fast on a CPU: the measured precision, attention as products, memory kept, and snapshots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from pydantic import ValidationError
from safetensors.torch import load_file

from cl_vs_mim.config import Architecture, Training, load_study
from cl_vs_mim.encoder.checkpoints import load_encoder, read_header
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.pretrain import loop, precision, trainer
from cl_vs_mim.pretrain.precision import EXACT, MIXED, faster, is_open, make_fabric, measure_precisions, precision_of
from cl_vs_mim.pretrain.registry import build_objective
from cl_vs_mim.pretrain.run import index_training_images
from cl_vs_mim.pretrain.schedule import snapshot_steps
from cl_vs_mim.pretrain.sources import make_source
from cl_vs_mim.pretrain.trainer import Trainer, multiply_out_attention
from test_pretrain_loop import BATCH, IMAGES, always_infinite, assert_same_weights, tiny, train, write_images
from workplace import Workplace

EPOCHS = 3
STEPS = EPOCHS * (IMAGES // BATCH)
SEED = 1  # of every encoder of the tiny study
FAST, SLOW = {EXACT: 1.0, MIXED: 2.0}, {EXACT: 1.0, MIXED: 1.1}  # what bfloat16 may bring


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("precision") / "objects")


@pytest.fixture
def workplace(workplace: Workplace, data: Path) -> Workplace:
    for model in tiny(workplace, data).study["models"].values():
        model["training"].update(epochs=EPOCHS, warmup_epochs=1)
    return workplace


def found(monkeypatch, rates: dict[str, float]) -> list[int]:
    """From now on the measurement finds ``rates``; the list has an entry for every measurement."""
    calls: list[int] = []

    def measure(*_) -> dict[str, float]:
        calls.append(1)
        return rates

    monkeypatch.setattr(precision, "measure_precisions", measure)
    return calls


# ------------------------------------------------------------------------------------------------
# Precision
# ------------------------------------------------------------------------------------------------


def fused(objective: torch.nn.Module) -> list[bool]:
    """Of every attention, whether it is computed in one go."""
    return [part.fused_attn for part in objective.modules() if hasattr(part, "fused_attn")]


def in_plain_float32(workplace: Workplace, model: str) -> dict[str, torch.Tensor]:
    """The encoder's weights from the trainer alone: fused attention, no measurement, malloc as it comes."""
    study = load_study(workplace.config())
    settings = study.models[model]
    architecture = study.architectures[settings.architecture]
    index, _ = index_training_images(workplace.options["data"])
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    objective = build_objective(settings, architecture, SEED)
    alone = Trainer(objective, settings.training, architecture.image_size, SEED, IMAGES // BATCH, fabric)
    source = make_source(index, index.labels, "memory", alone.plan(), fabric.device, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with loop.deterministic_on_cpu(fabric.device):
            for _ in range(STEPS):
                alone.run_step(source)
    finally:
        torch.set_num_threads(threads)
    assert set(fused(objective)) == {True}
    return objective.encoder.backbone.state_dict()


@pytest.mark.parametrize("model", ["moco_v3", "simmim"])
def test_float32_is_what_it_was_bit_for_bit_asked_for_or_measured(workplace, monkeypatch, model):
    expected = in_plain_float32(workplace, model)
    asked = load_file(train(workplace, model, runs="asked", output="asked"))
    for name, tensor in expected.items():
        assert torch.equal(asked[name], tensor), name
    workplace.training(model)["precision"] = "auto"
    monkeypatch.setattr(precision, "faster", lambda rates: EXACT)  # the measurement itself is the real one
    measured = train(workplace, model, runs="measured", output="measured")
    assert_same_weights(workplace.folder / "asked.safetensors", measured)


def test_what_auto_chooses_is_what_the_name_of_the_precision_gives(workplace, monkeypatch):
    workplace.training("simmim")["precision"] = MIXED
    asked = train(workplace, "simmim", runs="asked", output="asked")
    workplace.training("simmim")["precision"] = "auto"
    found(monkeypatch, FAST)
    chosen = train(workplace, "simmim", runs="chosen", output="chosen")
    assert_same_weights(asked, chosen)
    found(monkeypatch, SLOW)
    exact = train(workplace, "simmim", runs="exact", output="exact")
    assert read_header(exact)[1]["precision"] == EXACT
    weight = "blocks.0.mlp.fc1.weight"
    assert not torch.equal(load_file(exact)[weight], load_file(chosen)[weight])


def test_a_run_keeps_the_precision_it_began_with(workplace, monkeypatch, capsys):
    workplace.training("simmim")["precision"] = "auto"
    calls = found(monkeypatch, FAST)
    whole = train(workplace, "simmim", runs="whole", output="whole")
    ticks = iter(range(8))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_agreed", lambda *_: next(ticks) == 7)
        with pytest.raises(SystemExit):
            train(workplace, "simmim")
    found(monkeypatch, SLOW)
    resumed = train(workplace, "simmim", log_table=workplace.folder / "log.csv")
    assert len(calls) == 2, "one for each run folder"
    assert_same_weights(whole, resumed)
    record = workplace.run_folder() / "precision.json"
    assert json.loads(record.read_text()) == {"images_per_cpu_second": FAST}
    assert read_header(resumed)[1]["precision"] == MIXED
    header, *rows = (workplace.folder / "log.csv").read_text().splitlines()
    column = header.split(",").index("precision")
    assert {row.split(",")[column] for row in rows} == {MIXED}
    record.write_text('{"images_per_cpu_second": {"32-true": 1}}')
    train(workplace, "simmim")
    assert "precision.json is damaged" in capsys.readouterr().err
    assert json.loads(record.read_text()) == {"images_per_cpu_second": SLOW}


@pytest.mark.parametrize("model", ["moco_v3", "dino", "hybrid_05", "tokenizer"])
def test_the_measurement_leaves_weights_and_randomness_alone(workplace, model):
    study = load_study(workplace.config())
    settings = study.models[model]
    objective = build_objective(settings, study.architectures[settings.architecture], SEED)
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    state, mode = torch.get_rng_state(), objective.training
    rates = measure_precisions(objective, settings.training, 16)
    assert rates.keys() == {EXACT, MIXED} and min(rates.values()) > 0
    assert torch.equal(torch.get_rng_state(), state) and objective.training == mode
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert set(fused(objective)) == {True}


def test_bfloat16_has_to_be_clearly_faster():
    assert faster(FAST) == MIXED and faster(SLOW) == EXACT and faster({EXACT: 3.0, MIXED: 1.0}) == EXACT


def test_a_loss_that_is_never_finite_is_left_to_the_training(workplace, monkeypatch):
    study = load_study(workplace.config())
    settings = study.models["simmim"]
    objective = build_objective(settings, study.architectures[settings.architecture], SEED)
    monkeypatch.setattr(Trainer, "_forward", always_infinite(Trainer._forward, 0))
    rates = measure_precisions(objective, settings.training, 16)
    assert rates == {EXACT: 0, MIXED: 0} and faster(rates) == EXACT


def test_only_auto_on_one_process_of_a_cpu_is_open():
    fabric = make_fabric("cpu", "auto")
    assert precision_of(fabric) == EXACT and is_open(fabric, "auto")
    assert not is_open(fabric, EXACT) and not is_open(fabric, MIXED)
    assert not is_open(make_fabric("cpu", "auto", devices=2), "auto")


# ------------------------------------------------------------------------------------------------
# Attention and memory
# ------------------------------------------------------------------------------------------------


def architecture(family: str, image_size: int = 16) -> Architecture:
    positions = {"vit": {"positions": "sincos"}, "beit": {"positions": "relative", "layer_scale": 0.1}}[family]
    sizes = {"image_size": image_size, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
    return Architecture(label=family, family=family, **sizes, **positions)


@pytest.mark.parametrize("family", ["vit", "beit"])
def test_products_are_the_fused_attention_forward_and_backward(family):
    encoder = build_encoder(architecture(family).spec(), 0).double()
    images, weights = torch.randn(3, 3, 16, 16).double(), torch.randn(3, 17, 16).double()
    results = []
    for _ in range(2):
        encoder.zero_grad()
        tokens = encoder(images)
        (tokens * weights).sum().backward()
        gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
        results.append([tokens.detach(), *gradients])
        multiply_out_attention(encoder)
    assert len(results[0]) > 10
    for fused, products in zip(*results, strict=True):
        torch.testing.assert_close(products, fused, rtol=1e-9, atol=1e-12)


def test_every_encoder_of_an_objective_multiplies_and_long_sequences_stay_fused(workplace):
    study = load_study(workplace.config())
    settings = study.models["moco_v3"]
    for name, image_size, flag in [(MIXED, 16, False), (EXACT, 16, True), (MIXED, 4 * 24, True)]:
        fabric = make_fabric("cpu", name)
        objective = build_objective(settings, architecture("vit", image_size), SEED)
        Trainer(objective, settings.training, image_size, SEED, 1, fabric)
        assert fused(objective) == [flag] * 4, "two blocks of the encoder, two of its momentum copy"
    assert 24**2 >= trainer._LONG > 16


_FAULTS = """
import resource, sys
from cl_vs_mim.pretrain.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
bytearray(2**26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray(2**26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc alone is set")
def test_memory_that_was_freed_is_not_asked_for_again():
    def faults(way: str) -> int:
        return int(subprocess.run([sys.executable, "-c", _FAULTS, way], capture_output=True, text=True).stdout)

    assert faults("keep") < 100 < faults("leave")


# ------------------------------------------------------------------------------------------------
# Snapshots
# ------------------------------------------------------------------------------------------------


def training(**changes) -> Training:
    fields = dict(epochs=1, warmup_epochs=0, batch_size=10, base_lr=1e-3, lr_batch=10, weight_decay=0)
    return Training(**fields | dict(checkpoint_steps=1, log_steps=1) | changes)


def test_snapshots_come_at_a_geometric_sequence_of_images():
    assert snapshot_steps(100, training()) == frozenset()
    assert snapshot_steps(100, training(snapshots={"first": 50})) == {5, 10, 20, 40, 80}
    assert snapshot_steps(100, training(snapshots={"first": 41, "factor": 3})) == {5, 13, 37}
    assert snapshot_steps(4, training(snapshots={"first": 50})) == frozenset()
    assert snapshot_steps(3, training(snapshots={"first": 1})) == {1, 2}, "several within a step are one"
    with pytest.raises(ValidationError, match="factor"):
        training(snapshots={"first": 50, "factor": 1})


def test_snapshots_are_encoders_in_float16_and_decide_no_weights(workplace, monkeypatch):
    plain = train(workplace, "simmim", runs="plain", output="plain")
    workplace.training("simmim")["snapshots"] = {"first": 10}
    ticks = iter(range(8))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_agreed", lambda *_: next(ticks) == 7)
        with pytest.raises(SystemExit):
            train(workplace, "simmim")
    assert_same_weights(plain, train(workplace, "simmim"))
    assert workplace.run_folder().name == workplace.run_folder("plain").name
    snapshots = sorted((workplace.run_folder() / "snapshots").iterdir())
    assert [path.name for path in snapshots] == [f"images_{count:010d}.safetensors" for count in (12, 20, 40)]
    header = read_header(snapshots[1])[1]
    assert {key: header[key] for key in ("model", "method", "seed", "images", "steps", "precision")} == {
        **{"model": "simmim", "method": "simmim", "seed": SEED},
        **{"images": 20, "steps": 5, "precision": EXACT},
    }
    assert header["data_hash"] == "ab" * 32 and header["git_commit"]
    assert load_file(snapshots[1])["blocks.0.mlp.fc1.weight"].dtype == torch.float16
    weights = [load_encoder(path, "native").backbone.blocks[0].mlp.fc1.weight for path in snapshots]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
