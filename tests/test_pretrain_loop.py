"""The training loop: killed and resumed to the same weights, and every refusal it owes its user."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cl_vs_mim.config import Training, load_study
from cl_vs_mim.config.encoders import decides_encoder
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints import load_encoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.pretrain import interrupt, loop
from cl_vs_mim.pretrain import run as scaffold
from cl_vs_mim.pretrain.closure import training_code
from cl_vs_mim.pretrain.commands import pretrain
from cl_vs_mim.pretrain.data import batch_positions
from cl_vs_mim.pretrain.interrupt import PAUSED
from cl_vs_mim.pretrain.monitor import feature_std
from cl_vs_mim.pretrain.schedule import learning_rate, weight_decay
from cl_vs_mim.pretrain.state import RunFolder, resolve_run
from cl_vs_mim.pretrain.trainer import Trainer
from workplace import Workplace

IMAGES, BATCH, EPOCHS, CHECKPOINT_STEPS = 26, 4, 16, 5
STEPS = EPOCHS * (IMAGES // BATCH)
METHODS = ("moco_v3", "simmim", "mae", "dino", "supervised", "hybrid_05", "tokenizer", "beit")


@pytest.fixture(scope="session")
def processes():
    """Processes that start in a moment: they are forked from one that has imported the loop already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cl_vs_mim.pretrain.run"])
    return context


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "objects")


def write_images(folder: Path) -> Path:
    """A training set of :data:`IMAGES` random pictures in three classes."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        path = folder / "train" / f"class{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    (folder / "manifest.json").write_text(json.dumps({"data_hash": "ab" * 32}))
    return folder


@pytest.fixture
def workplace(workplace: Workplace, data: Path) -> Workplace:
    return tiny(workplace, data)


def tiny(workplace: Workplace, data: Path) -> Workplace:
    """Trainings of a second or so."""
    workplace.shape(image_size=16, patch_size=4, width=16, depth=2, heads=2)
    workplace.study["models"]["supervised"]["objective"]["classes"] = 3
    for model in workplace.study["models"].values():
        model["seeds"] = [1]
        model["training"].update(
            epochs=EPOCHS, batch_size=BATCH, checkpoint_steps=CHECKPOINT_STEPS, log_steps=2, drop_path=0.2
        )
    workplace.training("moco_v3").update(drop_path=0.0)
    workplace.options["data"] = data
    return workplace


def files(workplace: Workplace, runs: str = "runs", output: str = "encoder", **options) -> dict:
    """What a training is told to write, and its other options."""
    return {"runs": workplace.folder / runs, "output": workplace.folder / f"{output}.safetensors"} | options


def arguments(workplace: Workplace, model: str, **options) -> dict:
    return workplace.arguments(f"{model}_seed1", **files(workplace, **options))


def train(workplace: Workplace, model: str, **options) -> Path:
    given = files(workplace, **options)
    workplace.call(pretrain, f"{model}_seed1", **given)
    return given["output"]


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), f"{name} differs"


def curve(folder: Path) -> list[list[str]]:
    """The log without its timings."""
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    assert lines[0][-2:] == ["images_per_second", "seconds"]
    return [line[:-2] for line in lines]


# ------------------------------------------------------------------------------------------------
# Killed and resumed
# ------------------------------------------------------------------------------------------------


def wait_for(condition, process, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition() and process.is_alive() and time.monotonic() < end:
        time.sleep(0.0005)


@pytest.mark.slow
@pytest.mark.parametrize("model", METHODS)
def test_killed_at_any_moment_it_ends_with_the_weights_of_an_undisturbed_run(workplace, processes, model):
    options = {"needs": train(workplace, "tokenizer", runs="codes", output="codes")} if model == "beit" else {}
    undisturbed = train(workplace, model, runs="whole", output="whole", **options)
    given = arguments(workplace, model, runs="killed", output="killed", **options)
    folder = workplace.folder / "killed" / workplace.run_folder("whole").name
    delays = random.Random(model)
    kills = 0

    def reached(count: int):
        return lambda: len(list(folder.glob("checkpoint_*.json"))) >= count

    def writing():
        return any(folder.glob(".checkpoint_*.part*"))

    for condition in [lambda: folder.exists(), reached(1), writing, reached(2), writing, writing]:
        process = processes.Process(target=pretrain, kwargs=given)
        process.start()
        wait_for(condition, process)
        if condition is not writing:
            time.sleep(delays.uniform(0, 0.15))
        process.kill()
        process.join()
        kills += process.exitcode == -9
        assert process.exitcode in (-9, 0)
        assert not given["output"].exists() or process.exitcode == 0
    assert kills >= 3, "the run was over before it could be killed: give it more steps"
    process = processes.Process(target=pretrain, kwargs=given)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert_same_weights(undisturbed, given["output"])
    assert undisturbed.read_bytes() == given["output"].read_bytes()
    assert curve(folder) == curve(workplace.run_folder("whole"))
    assert not list(folder.glob(".*.part*"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no_tensors", "record"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(workplace, capsys, damage):
    output = train(workplace, "simmim")
    expected, folder = output.read_bytes(), workplace.run_folder()
    whole_curve = curve(folder)
    newest = folder / f"checkpoint_{STEPS:09d}.pt"
    content = newest.read_bytes()
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        newest.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    elif damage == "no_tensors":
        newest.unlink()
    else:
        newest.with_suffix(".json").write_text("{")
    output.unlink()
    train(workplace, "simmim")
    warning = capsys.readouterr().err
    assert f"checkpoint {newest} is damaged" in warning and "the one before" in warning
    assert "starts again" not in warning
    assert output.read_bytes() == expected
    assert curve(folder) == whole_curve


def test_without_a_whole_checkpoint_it_starts_again_and_says_so(workplace, capsys):
    output = train(workplace, "simmim")
    expected, folder = output.read_bytes(), workplace.run_folder()
    whole_curve = curve(folder)
    assert len(list(folder.glob("*.pt"))) == 2
    for path in folder.glob("*.pt"):
        path.write_bytes(b"")
    train(workplace, "simmim")
    assert "starts again from step 0" in capsys.readouterr().err
    assert output.read_bytes() == expected
    assert curve(folder) == whole_curve


def test_a_finished_run_is_exported_again_without_training(workplace, monkeypatch):
    output = train(workplace, "moco_v3", log_table=workplace.folder / "log.csv")
    expected = output.read_bytes()
    output.unlink()
    monkeypatch.setattr(scaffold, "make_source", lambda *_: pytest.fail("images were read again"))
    train(workplace, "moco_v3")
    assert output.read_bytes() == expected
    table = (workplace.folder / "log.csv").read_text().splitlines()
    assert table[0].startswith("study,git_commit,config_hash,data_hash,packages,device,")
    assert len(table) == 1 + STEPS // 2
    encoder = load_encoder(output, "native")
    control = build_encoder(load_study(workplace.folder / "smoke.yaml").architectures["vit"].spec(), seed=1)
    trained = encoder.backbone.blocks[0].attn.qkv.weight
    assert not torch.equal(trained, control.backbone.blocks[0].attn.qkv.weight)
    frozen = encoder.backbone.patch_embed.proj.weight
    assert torch.equal(frozen, control.backbone.patch_embed.proj.weight), "MoCo v3 freezes the patch projection"


def test_it_pauses_at_its_deadline_and_goes_on(workplace, monkeypatch, capsys):
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 1
            return self.now

    whole = train(workplace, "simmim", runs="whole", output="whole")
    clock = Clock()
    for module in (interrupt, loop):
        monkeypatch.setattr(module, "time", clock)
    with pytest.raises(SystemExit) as stopped:
        train(workplace, "simmim", stop_after_minutes=0.2)
    assert stopped.value.code == PAUSED == 75
    assert "paused at step" in capsys.readouterr().err
    assert not (workplace.folder / "encoder.safetensors").exists()
    steps = [json.loads(path.read_text())["step"] for path in workplace.run_folder().glob("checkpoint_*.json")]
    assert 0 < max(steps) < STEPS
    monkeypatch.undo()
    assert_same_weights(train(workplace, "simmim"), whole)


# ------------------------------------------------------------------------------------------------
# Refusals
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["moco_v3", "simmim"])
def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(workplace, model):
    workplace.training(model).update(base_lr=1e30, checkpoint_steps=1, warmup_epochs=0)
    with pytest.raises(UserError, match=r"at step \d+ \(learning rate \S+e\+\d+\); last good checkpoint: ") as stop:
        train(workplace, model)
    assert not (workplace.folder / "encoder.safetensors").exists()
    checkpoint = str(stop.value).split("last good checkpoint: ")[1].split(";")[0]
    if checkpoint != "none":
        state = torch.load(checkpoint, weights_only=True)
        assert state["step"] < int(str(stop.value).split("at step ")[1].split(" ")[0]) - 1, "its loss was not finite"


def test_a_second_process_on_the_same_run_is_refused(workplace, processes):
    workplace.training("simmim").update(epochs=100000)
    given = arguments(workplace, "simmim")
    process = processes.Process(target=pretrain, kwargs=given)
    process.start()
    try:
        wait_for(lambda: list(workplace.folder.glob("runs/*/checkpoint_*.json")), process)
        with pytest.raises(UserError, match=r"another process is training in .*simmim_seed1"):
            pretrain(**given)
    finally:
        process.kill()
        process.join()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_polite_signal_saves_the_state_and_asks_to_be_started_again(workplace, processes, number):
    undisturbed = train(workplace, "simmim", runs="whole", output="whole")
    given = arguments(workplace, "simmim", runs="stopped", output="stopped")
    folder = workplace.folder / "stopped" / workplace.run_folder("whole").name
    process = processes.Process(target=pretrain, kwargs=given)
    process.start()
    wait_for(lambda: (folder / "metrics.csv").exists(), process)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == PAUSED and not given["output"].exists()
    (newest, *_) = sorted(folder.glob("checkpoint_*.json"), reverse=True)
    assert json.loads(newest.read_text())["step"] < STEPS
    assert_same_weights(undisturbed, train(workplace, "simmim", runs="stopped", output="stopped"))


def poison(monkeypatch, at: int) -> list[int]:
    """From now on the loss of step ``at`` is infinite, once; the list fills with the steps that were tried."""
    tried: list[int] = []
    forward = Trainer._forward

    def poisoned(self, *arguments):
        output = forward(self, *arguments)
        tried.append(self.step)
        if self.step == at and tried.count(at) == 1:
            return output._replace(loss=output.loss * math.inf)
        return output

    monkeypatch.setattr(Trainer, "_forward", poisoned)
    return tried


def test_a_rollback_goes_on_from_the_last_checkpoint_with_a_lower_rate(workplace, monkeypatch, capsys):
    workplace.training("simmim").update(rollback_factor=0.5, warmup_epochs=0)
    tried = poison(monkeypatch, at=13)
    train(workplace, "simmim")
    assert tried[:17] == [*range(14), 10, 11, 12], "back to the checkpoint of step 10"
    assert "back to step 10 with the learning rate times 0.5" in capsys.readouterr().err
    log = pd.read_csv(workplace.run_folder() / "metrics.csv").set_index("step")["lr"]
    training = load_study(workplace.folder / "smoke.yaml").models["simmim"].training
    steps = EPOCHS * (IMAGES // BATCH)
    assert log[10] == pytest.approx(learning_rate(9, steps, 0, training))
    assert log[14] == pytest.approx(0.5 * learning_rate(13, steps, 0, training))
    assert len(log) == log.index.nunique()


def test_without_the_key_or_for_the_second_time_it_stops(workplace, monkeypatch):
    poison(monkeypatch, at=13)
    with pytest.raises(UserError, match=r"training stopped: loss inf.* step 14"):
        train(workplace, "simmim")
    workplace.training("simmim").update(rollback_factor=0.5)
    monkeypatch.setattr(Trainer, "_forward", always_infinite(Trainer._forward, 13))
    with pytest.raises(UserError, match=r"training stopped again, after a rollback"):
        train(workplace, "simmim", runs="other")


def always_infinite(forward, at: int):
    def poisoned(self, *arguments):
        output = forward(self, *arguments)
        return output._replace(loss=output.loss * math.inf) if self.step == at else output

    return poisoned


# ------------------------------------------------------------------------------------------------
# Parts of a batch
# ------------------------------------------------------------------------------------------------


def test_accumulated_parts_are_the_whole_batch(workplace):
    """Supervised without mixing draws nothing in its forward pass, so the two differ by rounding alone."""
    objective = {"method": "supervised", "classes": 3, "mixup": 0, "cutmix": 0, "views": [{"crop_scale": [0.5, 1.0]}]}
    training = self_contained(workplace)
    for name, parts in (("whole", 1), ("parts", 2)):
        workplace.study["models"][name] = {
            **{"label": name, "paradigm": "supervised", "architecture": "vit", "seeds": [1], "objective": objective},
            "training": training | {"accumulate": parts},
        }
    first, second = (load_file(train(workplace, name, runs=name, output=name)) for name in ("whole", "parts"))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def self_contained(workplace) -> dict:
    return workplace.training("simmim") | {"drop_path": 0.0, "epochs": 1, "base_lr": 1e-3}


def test_a_loss_that_compares_images_refuses_parts(workplace):
    workplace.training("moco_v3").update(accumulate=2)
    with pytest.raises(UserError, match="MoCoV3 compares the images of a batch with each other"):
        train(workplace, "moco_v3")


def test_images_from_files_survive_a_pause_and_any_number_of_workers(workplace, monkeypatch):
    """The same weights from one worker without a pause and from two with one."""
    workplace.training("simmim")["images"] = "stream"
    workplace.study["compute"]["loader_workers"] = 1
    whole = train(workplace, "simmim", runs="whole", output="whole")
    workplace.study["compute"]["loader_workers"] = 2
    ticks = iter(range(7))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_agreed", lambda *_: next(ticks) == 6)
        with pytest.raises(SystemExit):
            train(workplace, "simmim", output="paused")
    paused = train(workplace, "simmim", output="paused")
    assert_same_weights(whole, paused)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])  # fused attention, and products
@pytest.mark.parametrize("model", ["moco_v3", "simmim"])
def test_compiled_blocks_have_the_losses_of_plain_ones(workplace, model, precision):
    workplace.training(model).update(epochs=1, warmup_epochs=0, log_steps=1, precision=precision)
    losses = {}
    for way in (False, True):
        workplace.training(model)["compile"] = way
        train(workplace, model, runs=f"compile_{way}", output=f"compile_{way}")
        log = pd.read_csv(workplace.run_folder(f"compile_{way}") / "metrics.csv")
        losses[way] = log[["loss", "grad_norm", "feature_std"]].to_numpy()
    assert len(losses[True]) == IMAGES // BATCH
    if precision == "32-true":
        np.testing.assert_allclose(losses[True], losses[False], rtol=1e-3)
    else:  # the statistics of four images blow roundings up from step to step
        np.testing.assert_allclose(losses[True][0, 0], losses[False][0, 0], rtol=0.02)


def test_compile_without_a_compiler_says_what_is_missing(workplace, monkeypatch):
    workplace.training("simmim")["compile"] = True
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler"):
        train(workplace, "simmim")


def test_what_decides_the_weights_names_the_run_folder(workplace, monkeypatch):
    """The folder is named by a record; an edit changes what it should of the record, and the name with it."""

    def record() -> dict:
        study = load_study(workplace.config())
        return resolve_run(decides_encoder(study, "simmim_seed1"), training_code("simmim", "beit"), "ab" * 32, {})

    def name(resolved: dict) -> str:
        return RunFolder(Path("runs"), "simmim", resolved).path.name

    first = record()
    canonical = json.dumps(first, sort_keys=True, separators=(",", ":")).encode()
    assert name(first) == f"simmim_seed1_{hashlib.sha256(canonical).hexdigest()[:12]}"
    assert (first["seed"], first["data_hash"], first["architecture"]["depth"]) == (1, "ab" * 32, 2)
    assert first["objective"]["mask_ratio"] == 0.6 and first["training"]["base_lr"] == 8e-4

    workplace.study["models"]["simmim"].update(label="another name", seeds=[0, 1, 2])
    workplace.training("simmim").update(log_steps=7, checkpoint_steps=7)
    workplace.study["data"]["scenes"]["train"] += 1
    assert record() == first, "words, sibling seeds, how often is saved and other images decide nothing"

    workplace.training("simmim").update(base_lr=1e-3)
    assert record() == first | {"training": first["training"] | {"base_lr": 1e-3}}
    workplace.training("simmim").update(base_lr=8e-4)
    workplace.study["architectures"]["beit"].update(depth=3)
    assert record() == first | {"architecture": first["architecture"] | {"depth": 3}}
    workplace.study["architectures"]["beit"].update(depth=2)
    monkeypatch.setattr("cl_vs_mim.pretrain.state.code_digest", lambda *modules: " ".join(modules))
    assert record() == first | {"code": " ".join(training_code("simmim", "beit"))}


def test_clear_errors_before_anything_is_trained(workplace, tmp_path):
    with pytest.raises(UserError, match=r"no encoder 'simmin_seed1'; did you mean 'simmim_seed1'\?"):
        train(workplace, "simmin")
    workplace.training("simmim").update(batch_size=IMAGES + 1)
    with pytest.raises(UserError, match=r"26 images, fewer than training.batch_size 27"):
        train(workplace, "simmim")
    with pytest.raises(UserError, match="is not an ImageFolder"):
        train(workplace, "moco_v3", data=tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        train(workplace, "moco_v3", runs="file")


# ------------------------------------------------------------------------------------------------
# Schedules and monitors
# ------------------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_falls_on_a_half_cosine():
    training = Training(
        epochs=10,
        warmup_epochs=2,
        batch_size=512,
        base_lr=1e-3,
        lr_batch=256,
        min_lr=1e-4,
        weight_decay=0,
        checkpoint_steps=1,
        log_steps=1,
    )
    rates = [learning_rate(step, 100, 20, training) for step in range(101)]
    assert rates[:20] == pytest.approx([2e-3 * (step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(2e-3)
    assert rates[60] == pytest.approx((2e-3 + 1e-4) / 2)
    assert rates[100] == pytest.approx(1e-4)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert learning_rate(0, 100, 0, training) == pytest.approx(2e-3)


def test_the_rate_falls_by_steps_at_the_milestones():
    training = Training(
        epochs=10,
        warmup_epochs=1,
        schedule="multistep",
        milestones=(6, 8),
        base_lr=1e-2,
        lr_batch=64,
        batch_size=64,
        weight_decay=0,
        checkpoint_steps=1,
        log_steps=1,
    )
    rates = [learning_rate(step, 100, 10, training) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-3 * (step + 1) for step in range(10)])
    assert rates[10:60] == pytest.approx([1e-2] * 50)
    assert rates[60:80] == pytest.approx([1e-3] * 20) and rates[80:] == pytest.approx([1e-4] * 20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "multistep"}, "milestones: needed by the multistep schedule"),
        ({"milestones": (2,)}, "milestones: needed by the multistep schedule"),
        ({"schedule": "multistep", "milestones": (4,)}, "is not before the last epoch"),
        ({"accumulate": 3}, "3 does not divide batch_size 4"),
    ],
)
def test_schedules_that_contradict_themselves_are_refused(changes, message):
    fields = dict(epochs=4, warmup_epochs=0, batch_size=4, base_lr=1e-3, lr_batch=4, weight_decay=0)
    with pytest.raises(ValueError, match=message):
        Training(**fields | dict(checkpoint_steps=1, log_steps=1) | changes)


def test_weight_decay_rises_on_a_half_cosine_where_it_is_asked_to():
    fields = dict(epochs=1, warmup_epochs=0, batch_size=4, base_lr=1e-3, lr_batch=4, checkpoint_steps=1, log_steps=1)
    constant = Training(**fields, weight_decay=0.05)
    assert {weight_decay(step, 100, constant) for step in (0, 50, 99)} == {0.05}
    rising = Training(**fields, weight_decay=0.04, weight_decay_end=0.4)
    assert weight_decay(0, 100, rising) == pytest.approx(0.04)
    assert weight_decay(50, 100, rising) == pytest.approx(0.22)
    assert weight_decay(100, 100, rising) == pytest.approx(0.4)


def test_every_epoch_is_a_new_permutation():
    epochs = [
        torch.cat([batch_positions(epoch * 6 + slot, 26, 4, seed=5) for slot in range(6)]).tolist()
        for epoch in range(3)
    ]
    for order in epochs:
        assert len(set(order)) == 24 and set(order) <= set(range(26))
    assert len({tuple(order) for order in epochs}) == 3
    assert batch_positions(7, 26, 4, seed=5).tolist() == epochs[1][4:8]
    assert batch_positions(7, 26, 4, seed=6).tolist() != epochs[1][4:8]


def test_feature_std_tells_spread_from_collapse():
    spread = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert feature_std(spread) == pytest.approx(1, abs=0.02)
    assert feature_std(spread[:1].repeat(100, 1)) == pytest.approx(0, abs=1e-6)
    assert feature_std(spread[:, :1] * torch.ones(1, 64)) == pytest.approx(math.sqrt(1), abs=0.02)
