"""Cue conflict and noise read by a probe: on small data sets and small encoders."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cl_vs_mim.config import load_study
from cl_vs_mim.config.analysis import FourierNoise
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.data.images import index_image_folder, normalise
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.encoder.pooling import pool
from cl_vs_mim.transfer import commands
from cl_vs_mim.transfer.linear_probe.probes import Probe
from cl_vs_mim.transfer.robustness import evaluate as robustness
from cl_vs_mim.transfer.robustness.evaluate import Reader, cue_table, decide, noise_table, stylized_table
from workplace import CATEGORIES, SIZE, analysis_of_a_dozen, labelled_pictures

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return analysis_of_a_dozen(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return labelled_pictures(tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="module")
def cues(tmp_path_factory) -> Path:
    folder, rows = tmp_path_factory.mktemp("cues"), []
    for number, (shape, texture, material) in enumerate(
        [("bird", "tool", ""), ("bird", "flower", ""), ("flower", "tool", ""), ("tool", "", "brick")]
    ):
        path = folder / shape / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((SIZE, SIZE, 3), 40 * number, dtype=np.uint8)).save(path)
        rows.append({"path": f"{shape}/{number}.png", "shape_category": shape, "texture_category": texture})
        rows[-1]["material"] = material
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps({"data_hash": "c0de"}))
    return folder


def probe(width: int = 64, classes: tuple[str, ...] = CATEGORIES, final_norm: bool = False) -> Probe:
    weight = torch.randn(len(classes), width, generator=torch.Generator().manual_seed(3))
    return Probe(classes, 1.0, final_norm, torch.zeros(width), torch.ones(width), weight, torch.zeros(len(classes)))


# ------------------------------------------------------------------------------------------------
# Decisions
# ------------------------------------------------------------------------------------------------


def test_decisions_are_the_shapes_the_textures_or_neithers(cues):
    table = cue_table(cues, index_image_folder(cues))
    assert table["image"].tolist() == ["bird/0.png", "bird/1.png", "flower/2.png", "tool/3.png"]
    decided = decide(table, np.array([2, 0, 0, 2]), CATEGORIES)
    assert decided["predicted"].tolist() == ["tool", "bird", "bird", "tool"]
    assert decided["decision"].tolist() == ["texture", "shape", "other", "shape"]
    decided = decide(table, np.array([1, 1, 1, 1]), CATEGORIES)
    assert decided["decision"].tolist() == ["other", "texture", "shape", "other"]


def test_a_stylised_folder_has_shapes_alone(cues):
    table = stylized_table(index_image_folder(cues))
    assert table["shape_group"].tolist() == ["bird", "bird", "flower", "tool"]
    decided = decide(table, np.array([0, 1, 2, 2]), CATEGORIES)
    assert decided["decision"].tolist() == ["shape", "other", "other", "shape"]


def test_unknown_shapes_and_missing_rows_are_named(cues, tmp_path):
    table = cue_table(cues, index_image_folder(cues))
    with pytest.raises(UserError, match="knows no class tool"):
        decide(table, np.zeros(4, dtype=int), CATEGORIES[:2])
    other = tmp_path / "other"
    (other / "bird").mkdir(parents=True)
    Image.new("RGB", (SIZE, SIZE)).save(other / "bird" / "9.png")
    with pytest.raises(UserError, match=r"images\.csv does not exist"):
        cue_table(other, index_image_folder(other))
    (other / "images.csv").write_text((cues / "images.csv").read_text())
    with pytest.raises(UserError, match=r"no row for image bird/9\.png"):
        cue_table(other, index_image_folder(other))


@pytest.mark.parametrize(("architecture", "final_norm"), [("vit", False), ("beit", False), ("beit", True)])
def test_the_reader_is_the_probe_on_the_tokens_of_its_block(config, architecture, final_norm):
    encoder = build_encoder(load_study(config).architectures[architecture].spec(), 0).eval()
    images = normalise(torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8))
    head = probe(final_norm=final_norm)
    for block in (1, 3):
        tokens = encoder.states(images)[2 * block]
        tokens = encoder.norm(tokens) if final_norm else tokens
        for pooling in ("cls", "mean"):
            wanted = head(pool(tokens, pooling)).argmax(-1)
            np.testing.assert_array_equal(Reader(encoder, head, block, pooling)(images), wanted)


# ------------------------------------------------------------------------------------------------
# Noise
# ------------------------------------------------------------------------------------------------


def test_the_noise_table_has_every_image_clean_and_under_every_band(config):
    encoder = build_encoder(load_study(config).architectures["vit"].spec(), 0).eval()
    reader = Reader(encoder, probe(), 3, "mean")
    images = torch.randint(0, 256, (5, 3, SIZE, SIZE), dtype=torch.uint8)
    truth = reader(normalise(images))
    settings = FourierNoise(frequencies=[0.2, 0.6], widths=[0.1, 0.2], rms=0.5, seed=0)
    names = [f"val/{number}.png" for number in range(5)]
    table = noise_table(reader, list(images.split(2)), truth, names, settings, "x")
    assert len(table) == 5 * (1 + 2 * 2)
    clean = table[table["width"] == 0]
    assert (clean["value"] == 1).all() and (clean["frequency"] == 0).all(), "read as without noise"
    other = noise_table(reader, [images], truth, names, settings, "x")
    pd.testing.assert_frame_equal(table, other)  # whatever the batch
    assert (table["value"] == 0).any(), "noise of half the range changes something"
    narrow = settings.model_copy(update={"widths": [0.001], "frequencies": [0.21]})
    with pytest.raises(UserError, match=r"analysis\.robustness\.noise: an image of 48 px"):
        noise_table(reader, [images], truth, names, narrow, "x")


def run(module, config: Path, data: Path, folder: Path, model: str, encoder: Path | None = None, **more) -> Path:
    common = {"config": config, "model": model, "seed": 0, "encoder": encoder, "data": data, "device": "cpu"}
    module.main(Namespace(**common, threads=1, tables=folder, run="r", **more))
    return folder


# ------------------------------------------------------------------------------------------------
# The command of the robustness analysis
# ------------------------------------------------------------------------------------------------


def test_the_command_writes_both_tables(config, data, cues, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "load_probe", lambda path, labels, depth, pooling: probe())
    given = {"config": config, "run": "untrained_vit_seed0", "data": data, "cues": cues, "device": "cpu", "threads": 1}
    commands.robustness(**given, probes=tmp_path / "p.safetensors", tables=tmp_path)
    conflicts = read_table(tmp_path / "cue_conflict" / "untrained_vit_seed0.parquet")
    assert len(conflicts) == 4 and conflicts["data_hash"].unique().tolist() == ["c0de"]
    assert set(conflicts["decision"]) <= {"shape", "texture", "other"}
    noise = read_table(tmp_path / "noise" / "untrained_vit_seed0.parquet")
    assert noise["data_hash"].unique().tolist() == ["f00d"]
    assert len(noise) == 12 * (1 + 3) and noise["rms"].unique().tolist() == [0.1]
    assert noise["depth"].unique().tolist() == [3] and set(noise["value"]) <= {0, 1}
