"""A killed training ends with the weights of an undisturbed one; its evaluation is COCO's; the command writes both."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from detection_scenes import CATEGORIES, SIDE, TINY, edit, tiny, write_scenes

pytest.importorskip("detectron2")

from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as coco_mask

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.data.coco import read_coco
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.pretrain.state import RunFolder
from cl_vs_mim.transfer import commands
from cl_vs_mim.transfer.detection.data import TrainingSamples, records_of
from cl_vs_mim.transfer.detection.detector import Detector
from cl_vs_mim.transfer.detection.precision import METRICS, average_precision
from cl_vs_mim.transfer.detection.recipe import detector_config
from cl_vs_mim.transfer.detection.train import logs_to, run_steps

COMMON = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}
SPECS = {
    "vit": EncoderSpec(family="vit", positions="sincos", **COMMON),
    "beit": EncoderSpec(family="beit", positions="relative", layer_scale=0.1, **COMMON),
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "coco")


# ------------------------------------------------------------------------------------------------
# Kill and resume
# ------------------------------------------------------------------------------------------------


class Disturbed(TrainingSamples):
    """Something happens when the sample of a position is asked for."""

    def __init__(self, *arguments, at: int, event) -> None:
        super().__init__(*arguments)
        self._at, self._event = at, event

    def __getitem__(self, position: int):
        if position == self._at:
            self._event()
        return super().__getitem__(position)


def start(family: str, scenes: Path, folder: Path, deadline: float = float("inf"), disturb=None) -> tuple[bool, dict]:
    """One call of the training; returns whether it ended, and the weights."""
    settings = tiny(drop_path=0.2, iterations=5)
    encoder = build_encoder(SPECS[family], 0)
    detector = Detector.build(detector_config(SPECS[family], settings, 3, CPU), encoder, settings, 0, CPU)
    records = records_of(read_coco(scenes)[0], objects_only=True)
    samples = TrainingSamples(records, settings, 0)
    if disturb is not None:
        samples = Disturbed(records, settings, 0, at=disturb[0], event=disturb[1])
    with RunFolder(folder, "detection_x", {"seed": 0}) as run:
        state = run.load_latest(CPU)
        if state is not None:
            detector.restore(state)
        ended = run_steps(detector, samples, run, deadline)
        assert not ended or len(run.read_log()) == 5
    return ended, {name: tensor.clone() for name, tensor in detector.model.state_dict().items()}


def kill() -> None:
    raise KeyboardInterrupt  # nothing is saved on the way out


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("family", SPECS)
def test_a_disturbed_run_ends_with_the_weights_of_an_undisturbed_one(family, scenes: Path, tmp_path: Path) -> None:
    ended, expected = start(family, scenes, tmp_path / "undisturbed")
    assert ended
    folder = tmp_path / "disturbed"
    assert start(family, scenes, folder, deadline=time.monotonic() - 1)[0] is False  # before the first iteration
    with pytest.raises(KeyboardInterrupt):
        start(family, scenes, folder, disturb=(7, kill))  # in iteration 4, one after the checkpoint
    assert start(family, scenes, folder, disturb=(5, ask_to_stop))[0] is False
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    ended, found = start(family, scenes, folder)
    assert ended
    assert found.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == []
    untrained = build_encoder(SPECS[family], 0).state_dict()
    prefix = "backbone.net.dense.encoder."
    trained = [name for name, tensor in untrained.items() if not torch.equal(tensor, expected[prefix + name])]
    assert any("blocks.0" in name for name in trained)  # the encoder is trained too


def test_a_loss_that_is_not_finite_stops_with_a_remedy(scenes: Path) -> None:
    settings = tiny()
    detector = Detector.build(
        detector_config(SPECS["vit"], settings, 3, CPU), build_encoder(SPECS["vit"], 0), settings, 0, CPU
    )
    detector.model.roi_heads.box_predictor.cls_score.bias.data.fill_(float("nan"))
    samples = TrainingSamples(records_of(read_coco(scenes)[0], objects_only=True), settings, 0)
    with pytest.raises(UserError, match=r"iteration 1: the loss is nan .*lower transfer.detection.base_lr"):
        detector.run_step([samples[0], samples[1]])


def test_parts_of_a_batch_give_nearly_the_gradient_of_the_whole(scenes: Path) -> None:
    """Box losses are divided by the number of regions of a part, so only nearly."""
    lines = []
    for accumulate in (1, 2):
        settings = tiny(accumulate=accumulate, proposals=50, regions=64)
        detector = Detector.build(
            detector_config(SPECS["vit"], settings, 3, CPU), build_encoder(SPECS["vit"], 0), settings, 0, CPU
        )
        samples = TrainingSamples(records_of(read_coco(scenes)[0], objects_only=True), settings, 0)
        lines.append(detector.run_step([samples[0], samples[1]]))
    for name, value in lines[0].items():
        assert lines[1][name] == pytest.approx(value, rel=0.2, abs=0.02), name


# ------------------------------------------------------------------------------------------------
# Evaluation
# ------------------------------------------------------------------------------------------------


def truth(record: dict) -> Instances:
    """The ground truth of an image as if it had been found."""
    rows = [row for row in record["annotations"] if not row["iscrowd"]]
    instances = Instances((record["height"], record["width"]))
    instances.pred_boxes = Boxes(
        torch.tensor([BoxMode.convert(row["bbox"], row["bbox_mode"], BoxMode.XYXY_ABS) for row in rows])
    )
    instances.scores = torch.ones(len(rows))
    instances.pred_classes = torch.tensor([row["category_id"] for row in rows])
    instances.pred_masks = torch.stack([torch.from_numpy(decoded(row["segmentation"]).copy()) for row in rows]).bool()
    return instances


def decoded(segmentation) -> np.ndarray:
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, SIDE, SIDE))
    return coco_mask.decode(segmentation)


def test_the_ground_truth_has_a_precision_of_100(scenes: Path) -> None:
    _, val = read_coco(scenes)
    table = average_precision(val, [(record, truth(record)) for record in records_of(val)])
    assert list(table.columns) == ["task", "metric", "category", "value"]
    assert len(table) == 2 * (len(METRICS) + len(CATEGORIES))
    assert set(table["category"]) == {"all", *CATEGORIES.values()}
    there = table[~table["metric"].isin(["APm", "APl"])]
    assert np.allclose(there["value"], 100)
    assert table[table["metric"] == "APl"]["value"].isna().all()  # no object is that large


def test_a_shifted_category_has_the_precision_of_none(scenes: Path) -> None:
    """Class numbers are mapped back to the ids with gaps: one category wrong, the others right."""
    _, val = read_coco(scenes)
    found = [(record, truth(record)) for record in records_of(val)]
    for _, instances in found:
        instances.pred_boxes.tensor[instances.pred_classes == 1] += 30
    table = average_precision(val, found).set_index(["task", "metric", "category"])["value"]
    assert table["box", "AP", "disc"] == table["box", "AP", "bar"] == pytest.approx(100)
    assert table["box", "AP", "box"] == 0
    assert table["mask", "AP", "box"] == pytest.approx(100)  # masks are judged by themselves


def test_no_prediction_at_all_is_0_and_not_missing(scenes: Path) -> None:
    _, val = read_coco(scenes)
    found = [(record, truth(record)[torch.zeros(3, dtype=torch.bool)]) for record in records_of(val)]
    table = average_precision(val, found)
    assert (table[table["metric"] == "AP"]["value"] == 0).all()
    assert table[table["metric"] == "APl"]["value"].isna().all()


# ------------------------------------------------------------------------------------------------
# Command
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(root: Path, tmp_path_factory) -> Path:
    study = yaml.safe_load((root / "config" / "smoke.yaml").read_text())
    study["transfer"]["detection"] = TINY | {"image_size": 48, "window": 6}
    path = tmp_path_factory.mktemp("config") / "smoke.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def command(config: Path, scenes: Path, folder: Path, model: str = "untrained_vit", **more: object) -> pd.DataFrame:
    given = {"config": config, "run": f"{model}_seed0", "data": scenes, "runs": folder / "runs", "tables": folder}
    given |= {"picture": folder / "picture.png", "device": "cpu", "threads": 1}
    commands.detection(**given | more)
    return read_table(folder / "detection" / f"{model}_seed0.parquet")


def test_the_command_pauses_goes_on_and_writes_table_and_picture(config, scenes, tmp_path: Path, capfd) -> None:
    with pytest.raises(SystemExit) as caught:
        command(config, scenes, tmp_path, stop_after_minutes=0)
    assert caught.value.code == 75
    assert not (tmp_path / "detection").exists()
    table = command(config, scenes, tmp_path)
    said = capfd.readouterr()
    assert said.out == ""  # what detectron2 and pycocotools say is in the run folder
    assert "paused at iteration 0 of 4" in said.err
    assert "detectron2" not in said.err.replace(str(tmp_path), "")
    assert len(table) == 2 * (len(METRICS) + len(CATEGORIES))
    for name in (*HEAD, "model", "method", "paradigm", "seed", "iterations", "unit"):
        assert len(table[name].unique()) == 1, name
    assert "detectron2" in table["packages"].iloc[0]
    assert table["value"].dropna().between(0, 100).all()
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size[0] > picture.size[1] / 2 > 100
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("detection_untrained_vit_seed0_")
    assert "pycocotools" in (run / "detectron2.log").read_text()
    assert "EncoderBackbone" in (run / "lazy_config.yaml").read_text()
    assert json.loads((run / "config.json").read_text())["settings"]["image_size"] == 48
    again = command(config, scenes, tmp_path)  # a finished training is only evaluated
    pd.testing.assert_frame_equal(again, table)


def test_the_command_refuses_what_does_not_fit(config: Path, scenes: Path, tmp_path: Path) -> None:
    study = yaml.safe_load(config.read_text())
    for section, message in (
        (None, "study 'smoke' has no transfer.detection"),
        ({"detection": TINY | {"window": 4}}, "image_size: 64 px does not fit|patches of"),
    ):
        study["transfer"] = section
        study["architectures"]["vit"]["patch_size"] = 8 if section is None else 12
        path = tmp_path / "smoke.yaml"
        path.write_text(yaml.safe_dump(study))
        with pytest.raises(UserError, match=message):
            command(path, scenes, tmp_path)


def test_without_detectron2_the_command_says_what_to_install(config, scenes, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("cl_vs_mim.transfer.run.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"detectron2 and pycocotools not installed; .*detectron2.lock"):
        command(config, scenes, tmp_path)


def test_the_command_names_a_bad_annotation(config: Path, tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "coco")
    content, write = edit(root, "val")
    content["annotations"][0]["category_id"] = 3
    write(content)
    with pytest.raises(UserError, match=r"instances_val2017.json: annotations\[0\] \(id 1\) has category_id 3"):
        command(config, root, tmp_path)


def test_another_encoder_is_another_run(config: Path, scenes: Path, tmp_path: Path) -> None:
    spec = load_study(config).architectures["beit"].spec()
    for seed in (0, 1):
        save_encoder(tmp_path / "simmim.safetensors", build_encoder(spec, seed), {"model": "simmim", "seed": 0})
        with pytest.raises(SystemExit):
            file = tmp_path / "simmim.safetensors"
            command(config, scenes, tmp_path, model="simmim", encoder=file, stop_after_minutes=0)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_logs_go_to_the_file_and_nowhere_else(tmp_path: Path, capfd) -> None:
    with logs_to(tmp_path / "log"), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("detectron2.data").warning("a thing")
        warnings.warn("another thing", stacklevel=1)
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert "a thing" in (tmp_path / "log").read_text()
    assert "another thing" in (tmp_path / "log").read_text()
