"""Cue conflict and noise read by a probe; t-SNE of tokens; reconstructions: on small data sets and small encoders."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from cl_vs_mim.analysis import embedding, reconstruct
from cl_vs_mim.analysis.embedding import choose_images, purity
from cl_vs_mim.config import load_study
from cl_vs_mim.config.analysis import Embedding, FourierNoise
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.data.images import index_image_folder, normalise
from cl_vs_mim.data.labels import ImageLabels
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.encoder.decoders import DecoderSpec, build_decoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.metrics.fourier import relative_log_amplitudes
from cl_vs_mim.transfer import robustness
from cl_vs_mim.transfer.features import pooled
from cl_vs_mim.transfer.linear_probe import Probe
from cl_vs_mim.transfer.robustness import Reader, cue_table, decide, noise_table, stylized_table

ROOT = Path(__file__).resolve().parent.parent
CATEGORIES = ("bird", "flower", "tool")
SIZE = 48


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    study = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    study["analysis"] |= {"images": 12, "batch_size": 5}
    study["analysis"]["embedding"] |= {"perplexity": 5, "alternatives": [3], "classes": 2, "images_per_class": 2}
    path = tmp_path_factory.mktemp("config") / "smoke.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six identities of three categories with two random images each."""
    folder, rows = tmp_path_factory.mktemp("data") / "objects", []
    generator = np.random.default_rng(0)
    for identity in range(6):
        for number in range(2):
            path = folder / "val" / f"id{identity}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
            rows.append({"path": f"val/id{identity}/{number}.png", "category": CATEGORIES[identity % 3]})
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps({"data_hash": "f00d"}))
    return folder


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
            wanted = head(pooled(tokens, pooling)).argmax(-1)
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


# ------------------------------------------------------------------------------------------------
# t-SNE
# ------------------------------------------------------------------------------------------------


def test_purity_of_clusters_and_by_chance():
    generator = np.random.default_rng(0)
    groups = np.repeat([0, 1], 50)
    apart = generator.normal(size=(100, 2)) + 100 * groups[:, None]
    assert (purity(apart, groups, 10) == 1).all()
    mixed = generator.normal(size=(1000, 2))
    assert abs(purity(mixed, generator.integers(0, 4, 1000), 10).mean() - 0.25) < 0.03
    line = np.array([[0.0, 0.0], [1.0, 0.0], [2.1, 0.0]])
    assert purity(line, np.array([0, 0, 1]), 1).tolist() == [1, 1, 0]  # itself is no neighbour
    with pytest.raises(ValueError, match="3 neighbours asked for among 3 points"):
        purity(line, np.array([0, 0, 1]), 3)


def test_images_are_drawn_from_classes_that_have_enough():
    labels = ImageLabels("category", ("a", "b", "c", "d"), np.array([0] * 5 + [1] * 2 + [2] * 6 + [3] * 4))
    settings = Embedding(labels="category", classes=3, images_per_class=4, blocks=[1])
    chosen = choose_images(labels, settings)
    assert len(set(chosen.tolist())) == 12 and set(labels.numbers[chosen]) == {0, 2, 3}
    np.testing.assert_array_equal(chosen, choose_images(labels, settings))
    assert len({tuple(choose_images(labels, settings.model_copy(update={"seed": seed}))) for seed in range(5)}) > 1
    with pytest.raises(UserError, match="only 3 labels have that many"):
        choose_images(labels, settings.model_copy(update={"classes": 4}))


def run(module, config: Path, data: Path, folder: Path, model: str, encoder: Path | None = None, **more) -> Path:
    common = {"config": config, "model": model, "seed": 0, "encoder": encoder, "data": data, "device": "cpu"}
    module.main(Namespace(**common, threads=1, tables=folder, run="r", **more))
    return folder


def test_the_embedding_lists_its_images_and_repeats(config, data, tmp_path):
    folder = run(embedding, config, data, tmp_path / "one", "untrained_vit")
    table = read_table(folder / "embedding" / "r.parquet")
    assert len(table) == 2 * 2 * (4 * 36)  # two blocks, two perplexities, four images
    assert table["image"].nunique() == 4 and table.groupby("group", observed=True)["image"].nunique().tolist() == [2, 2]
    assert set(table["depth"]) == {2, 3} and set(table["perplexity"]) == {5, 3}
    shares = read_table(folder / "embedding_purity" / "r.parquet")
    assert shares["value"].between(0, 1).all() and set(shares["metric"]) == {"image_purity", "class_purity"}
    assert len(shares) == 2 * 2 * 2 * 4
    again = read_table(run(embedding, config, data, tmp_path / "two", "untrained_vit") / "embedding" / "r.parquet")
    np.testing.assert_array_equal(table[["x", "y"]], again[["x", "y"]])


# ------------------------------------------------------------------------------------------------
# Reconstruction
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["mae", "simmim"])
def test_reconstructions_keep_what_is_visible(config, data, tmp_path, model):
    study = load_study(config)
    encoder = build_encoder(study.architectures[study.models[model].architecture].spec(), 0).eval()
    fields = DecoderSpec("mae", 48, 2, 4, norm_pix=True) if model == "mae" else DecoderSpec("simmim")
    decoder = build_decoder(encoder.spec, fields)
    save_encoder(tmp_path / "e.safetensors", encoder, {"model": model, "seed": 0}, decoder=decoder)
    run(reconstruct, config, data, tmp_path, model, tmp_path / "e.safetensors")
    table = read_table(tmp_path / "reconstruction" / "r.parquet")
    assert len(table) == 2 * 3 * SIZE**2
    share = table["masked_share"].iloc[0]
    assert share == pytest.approx(27 / 36 if model == "mae" else 6 / 9)
    image = table["image"].iloc[0]
    pictures = {
        kind: rows.sort_values(["row", "col"])[["red", "green", "blue"]].to_numpy().reshape(SIZE, SIZE, 3)
        for kind, rows in table[table["image"] == image].groupby("kind", observed=True)
    }
    original = np.array(Image.open(data / image))
    np.testing.assert_array_equal(pictures["original"], original)
    hidden = (pictures["masked"] == 128).all(-1)
    assert hidden.mean() == pytest.approx(share, abs=0.01)
    np.testing.assert_array_equal(pictures["reconstructed"][~hidden], original[~hidden])
    assert (pictures["reconstructed"][hidden] != original[hidden]).any()

    inside = read_table(tmp_path / "decoder_fourier" / "r.parquet")
    if model == "simmim":
        assert len(inside) == 0 and "frequency" in inside
        return
    assert sorted(set(inside["depth"])) == [3, 3.5, 4, 4.5, 5] and inside["image"].nunique() == 12
    pixels = torch.from_numpy(original).permute(2, 0, 1)[None]
    states = decoder.eval().states(encoder(normalise(pixels)))
    wanted = relative_log_amplitudes(states[3])[0]
    rows = inside[(inside["image"] == image) & (inside["depth"] == 4.5)].sort_values("frequency")
    np.testing.assert_allclose(rows["value"], wanted, atol=1e-4)


def test_a_model_without_a_decoder_is_refused(config, data, tmp_path):
    with pytest.raises(UserError, match="moco_v3 has no decoder"):
        study = load_study(config)
        encoder = build_encoder(study.architectures["vit"].spec(), 0)
        save_encoder(tmp_path / "e.safetensors", encoder, {})
        run(reconstruct, config, data, tmp_path, "moco_v3", tmp_path / "e.safetensors")


# ------------------------------------------------------------------------------------------------
# The command of the robustness analysis
# ------------------------------------------------------------------------------------------------


def test_the_command_writes_both_tables(config, data, cues, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "load_probe", lambda path, labels, depth, pooling: probe())
    more = {"probes": tmp_path / "p.safetensors", "cue_conflict": cues, "stylized": None}
    folder = run(robustness, config, data, tmp_path, "untrained_vit", **more)
    conflicts = read_table(folder / "cue_conflict" / "r.parquet")
    assert len(conflicts) == 4 and conflicts["data_hash"].unique().tolist() == ["c0de"]
    assert set(conflicts["decision"]) <= {"shape", "texture", "other"}
    noise = read_table(folder / "noise" / "r.parquet")
    assert noise["data_hash"].unique().tolist() == ["f00d"]
    assert len(noise) == 12 * (1 + 3) and noise["rms"].unique().tolist() == [0.1]
    assert noise["depth"].unique().tolist() == [3] and set(noise["value"]) <= {0, 1}
