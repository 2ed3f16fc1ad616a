"""The commands of the analysis: what decides their tables, t-SNE of tokens, reconstructions; on small encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cl_vs_mim.analysis.commands import COMMANDS
from cl_vs_mim.analysis.embedding import choose_images, purity
from cl_vs_mim.cli import commands
from cl_vs_mim.config import load_study
from cl_vs_mim.config.analysis import Embedding
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import read_table
from cl_vs_mim.data.images import normalise
from cl_vs_mim.data.labels import ImageLabels
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.encoder.decoders import DecoderSpec, build_decoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.metrics.fourier import relative_log_amplitudes
from workplace import SIZE, analysis_of_a_dozen, labelled_pictures, set_key, smoke_study

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return analysis_of_a_dozen(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return labelled_pictures(tmp_path_factory.mktemp("objects"))


# ------------------------------------------------------------------------------------------------
# What decides a table
# ------------------------------------------------------------------------------------------------

RUN = "moco_v3_seed0"
PLACES = {
    "extract": {RUN, f"grid4/{RUN}", f"finetuned/{RUN}"},
    "embedding": {RUN},
    "reconstruct": {"mae_seed0"},
    "snapshots": {RUN},
    "card": {RUN},
}
EVERYTHING = {f"{verb}:{place}" for verb, places in PLACES.items() for place in places}
MEASURED = EVERYTHING - {f"card:{RUN}"}
OF_EXTRACT = {f"extract:{place}" for place in PLACES["extract"]}
NOT_OF_THE_GRID = OF_EXTRACT - {f"extract:grid4/{RUN}"}


def decided(study) -> dict[str, str]:
    return {
        f"{command.name}:{place}": command.config_hash(study, place)
        for command in COMMANDS
        for place in PLACES[command.name]
    }


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("figures.attention_maps.head", 1, set()),
        ("figures.attention_maps.block", 1, set()),
        ("figures.bootstrap.resamples", 77, set()),
        ("figures.spectrum.rank_fraction", 0.5, set()),
        ("models.moco_v3.label", "another", {f"card:{RUN}"}),
        ("transfer.finetuning.choices", "another", set()),
        ("models.moco_v3.choices", "another", set()),
        ("models.moco_v3.seeds", [0, 1], set()),
        ("architectures.vit.label", "another", set()),
        ("analysis.batch_size", 3, set()),
        ("analysis.probe.epochs", 77, set()),
        ("analysis.crop_fraction", 0.5, MEASURED),
        ("analysis.images", 9, MEASURED - {f"embedding:{RUN}", f"snapshots:{RUN}"}),
        ("analysis.phenomena.images", 9, {f"snapshots:{RUN}"}),
        ("analysis.phenomena.valley", 0.5, set()),
        ("analysis.spectrum.resamples", 77, OF_EXTRACT),
        ("figures.bootstrap.level", 0.5, OF_EXTRACT),
        ("figures.attention_maps.image", 1, NOT_OF_THE_GRID),
        ("analysis.movement.basis", "separate", NOT_OF_THE_GRID),
        ("analysis.embedding.seed", 5, {f"embedding:{RUN}"}),
        ("analysis.reconstruction.seed", 5, {"reconstruct:mae_seed0"}),
        ("models.moco_v3.training.epochs", 99, EVERYTHING - {"reconstruct:mae_seed0"}),
    ],
)
def test_a_setting_reaches_the_tables_that_hang_on_it_and_no_others(tmp_path, key, value, changed):
    raw = smoke_study()
    before = decided(load_study(ROOT / "config" / "smoke.yaml"))
    set_key(raw, key, value)
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(raw))
    after = decided(load_study(tmp_path / "smoke.yaml"))
    assert {name for name in before if before[name] != after[name]} == changed


def test_the_code_of_a_table_is_its_command_its_metrics_and_its_family():
    study = load_study(ROOT / "config" / "smoke.yaml")
    code = {command.name: set(command.code(study, min(PLACES[command.name]))) for command in COMMANDS}
    assert {"cl_vs_mim.metrics.diversity", "cl_vs_mim.encoder.families.vit"} <= code["extract"]
    assert "cl_vs_mim.encoder.families.beit" not in code["extract"]
    assert "cl_vs_mim.pretrain.mae" in code["reconstruct"]


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


def test_the_collection_of_others_is_drawn_as_a_class_only_where_a_folder_has_its_name():
    numbers = np.repeat(np.arange(4), 6)
    labels = ImageLabels("category", ("bird", "cat", "other", "planet"), numbers)
    settings = Embedding(labels="category", classes=3, images_per_class=4, blocks=[1])
    for seed in range(10):
        drawn = choose_images(labels, settings.model_copy(update={"seed": seed}))
        assert set(numbers[drawn]) == {0, 1, 3}
    folders = ImageLabels("class", labels.classes, numbers)
    assert len(choose_images(folders, settings.model_copy(update={"labels": "class", "classes": 4}))) == 16


def run(verb: str, config: Path, data: Path, folder: Path, model: str, **more) -> Path:
    options = dict(config=config, run=f"{model}_seed0", data=data, tables=folder, device="cpu", threads=1)
    commands()[verb].run(**options | more)
    return folder


def test_the_embedding_lists_its_images_and_repeats(config, data, tmp_path):
    folder = run("embedding", config, data, tmp_path / "one", "untrained_vit")
    stem = "untrained_vit_seed0.parquet"
    table = read_table(folder / "embedding" / stem)
    assert len(table) == 2 * 2 * (4 * 36)  # two blocks, two perplexities, four images
    assert table["image"].nunique() == 4 and table.groupby("group", observed=True)["image"].nunique().tolist() == [2, 2]
    assert set(table["depth"]) == {2, 3} and set(table["perplexity"]) == {5, 3}
    shares = read_table(folder / "embedding_purity" / stem)
    assert shares["value"].between(0, 1).all() and set(shares["metric"]) == {"image_purity", "class_purity"}
    assert len(shares) == 2 * 2 * 2 * 4
    again = read_table(run("embedding", config, data, tmp_path / "two", "untrained_vit") / "embedding" / stem)
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
    run("reconstruct", config, data, tmp_path, model, encoder=tmp_path / "e.safetensors")
    table = read_table(tmp_path / "reconstruction" / f"{model}_seed0.parquet")
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

    inside = read_table(tmp_path / "decoder_fourier" / f"{model}_seed0.parquet")
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
        run("reconstruct", config, data, tmp_path, "moco_v3", encoder=tmp_path / "e.safetensors")
