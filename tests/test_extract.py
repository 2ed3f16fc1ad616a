"""The extraction pass: tables, queries of Figure 2, and clear errors, on a small folder like the composer's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from cl_vs_mim import cli
from cl_vs_mim.analysis.layouts import EXTRACTED
from cl_vs_mim.analysis.queries import choose_queries
from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.data.images import decode_many, index_image_folder, normalise
from cl_vs_mim.encoder.checkpoints import load_encoder, save_encoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.encoder.resize import at_grid
from cl_vs_mim.metrics.attention import attention_distance, attention_rows
from cl_vs_mim.metrics.diversity import depth_similarity, head_similarity, token_similarity
from cl_vs_mim.metrics.fourier import relative_log_amplitudes
from cl_vs_mim.metrics.layouts import MEASURED
from cl_vs_mim.metrics.movement import displacement_variation
from cl_vs_mim.metrics.spectrum import image_log_singular_values, token_log_singular_values

ROOT = Path(__file__).resolve().parent.parent
IMAGES, SIZE, SEED = 5, 48, 0
BOX = {"x": 30, "y": 2, "width": 16, "height": 20, "interior_x": 37, "interior_y": 11}  # upper right


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """The smoke study with five images in batches of two."""
    study = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    study["analysis"] |= {"images": IMAGES, "batch_size": 2}
    study["figures"]["attention_maps"] |= {"image": 3, "block": -2}
    path = tmp_path_factory.mktemp("config") / "smoke.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.fixture
def data(tmp_path) -> Path:
    """Three identities of three random images."""
    folder, rows = tmp_path / "objects", []
    generator = np.random.default_rng(0)
    for identity in ("cup", "dog", "oak"):
        for number in range(3):
            path = folder / "val" / identity / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
            rows.append({"path": f"val/{identity}/{number}.png"} | BOX)
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps({"data_hash": "f00d"}))
    return folder


@pytest.fixture
def encoder_file(config, tmp_path) -> Path:
    encoder = build_encoder(load_study(config).architectures["beit"].spec(drop_path=0.1), seed=7)
    save_encoder(tmp_path / "simmim.safetensors", encoder, {"model": "simmim", "seed": SEED})
    return tmp_path / "simmim.safetensors"


def extract(config: Path, data: Path, folder: Path, model: str, **more) -> dict[str, pd.DataFrame]:
    run = f"{model}_seed{SEED}"
    options = dict(config=config, run=run, data=data, tables=folder, device="cpu", threads=1) | more
    cli.commands()["extract"].run(**options)
    assert [path for path in folder.rglob("*") if ".part" in path.name] == []
    return {kind: read_table(folder / kind / f"{run}.parquet") for kind in EXTRACTED}


# ------------------------------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------------------------------


def test_the_attention_table_has_one_row_per_value(config, data, tmp_path, encoder_file):
    table = extract(config, data, tmp_path, "simmim", encoder=encoder_file)["attention"]
    depth, heads = 3, 4
    assert len(table) == 4 * IMAGES * depth * heads
    assert not table.duplicated(["metric", "image", "depth", "head"]).any()
    constants = {
        **{"study": "smoke", "data_hash": "f00d", "model": "simmim", "label": "SimMIM", "method": "simmim"},
        **{"paradigm": "mim", "architecture": "beit", "seed": SEED, "grid": 6, "patch_size": 8},
    }
    assert {name: table[name].unique().tolist() for name in constants} == {k: [v] for k, v in constants.items()}
    assert set(HEAD) <= set(table.columns) and table.drop(columns="lambda").notna().all(axis=None)
    assert table["lambda"].isna().all()
    assert sorted(table["depth"].unique()) == [1, 2, 3] and sorted(table["head"].unique()) == [0, 1, 2, 3]
    assert table["value"].dtype == np.float64
    for column in (*HEAD, "model", "label", "method", "paradigm", "architecture", "image", "metric"):
        assert isinstance(table[column].dtype, pd.CategoricalDtype), column

    images = sorted(table["image"].unique())
    assert len(images) == IMAGES and all((data / image).is_file() for image in images)
    encoder = build_encoder(load_study(config).architectures["beit"].spec(), seed=7).eval()
    for image in images:  # each value belongs to its image, depth and head
        pixels = torch.from_numpy(np.array(Image.open(data / image))).permute(2, 0, 1)[None]
        maps = encoder.attentions(normalise(pixels))
        for block in range(depth):
            rows = table.query("metric == 'attention_distance' and image == @image and depth == @block + 1")
            wanted = attention_distance(maps[block], 8)[0]
            np.testing.assert_allclose(rows.sort_values("head")["value"], wanted, rtol=1e-4)


def test_another_grid_writes_what_is_measured_there_only(config, data, tmp_path, encoder_file):
    extract(config, data, tmp_path, "simmim", encoder=encoder_file)
    extract(config, data, tmp_path, "simmim", encoder=encoder_file, grid=4)
    assert sorted(path.name for path in (tmp_path / "grid4").iterdir()) == sorted(MEASURED)
    table = read_table(tmp_path / "grid4" / "attention" / f"simmim_seed{SEED}.parquet")
    assert table["grid"].unique().tolist() == [4]
    encoder = at_grid(build_encoder(load_study(config).architectures["beit"].spec(), seed=7).eval(), 4)
    image = sorted(table["image"].unique())[0]
    index = index_image_folder(data / "val")
    place = [f"val/{path}" for path in index.paths].index(image)
    maps = encoder.attentions(normalise(decode_many(index, np.array([place]), 32)))
    rows = table.query("metric == 'attention_distance' and image == @image and depth == 2").sort_values("head")
    np.testing.assert_allclose(rows["value"], attention_distance(maps[1], 8)[0], rtol=1e-4)


def test_the_map_table_holds_the_rows_of_two_queries_and_their_mean(config, data, tmp_path, encoder_file):
    tables = extract(config, data, tmp_path, "simmim", encoder=encoder_file)
    maps, picture = tables["attention_maps"], tables["attention_image"]
    assert len(maps) == 3 * (4 + 1) * 2 * 36 and set(HEAD) <= set(maps.columns)
    assert maps["depth"].unique().tolist() == [1, 2, 3]
    maps = maps[maps["depth"] == 2]
    sums = maps.groupby(["head", "query"])["value"].sum()
    assert sums.index.get_level_values("head").unique().tolist() == [-1, 0, 1, 2, 3]
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    by_head = maps[maps["head"] >= 0].groupby(["query", "key_row", "key_col"])["value"].mean()
    mean = maps[maps["head"] == -1].set_index(["query", "key_row", "key_col"])["value"]
    np.testing.assert_allclose(by_head.sort_index(), mean.sort_index(), rtol=1e-6)

    on, off = ((row.query_row, row.query_col) for row in maps.drop_duplicates("query").itertuples())
    assert on == (1, 4) and off == (5, 0)  # 11 // 8, 37 // 8; the corner opposite to the box
    image = maps["image"].unique()[0]
    pixels = np.array(Image.open(data / image))
    encoder = build_encoder(load_study(config).architectures["beit"].spec(), seed=7).eval()
    attention = encoder.attentions(normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None]))[1]
    wanted = attention_rows(attention, [on, off])[0, 2, 1]  # head 2, second query
    rows = maps.query("head == 2 and query == 1").sort_values(["key_row", "key_col"])
    np.testing.assert_allclose(rows["value"], wanted.flatten(), rtol=1e-4)

    assert picture["image"].unique().tolist() == [image] and len(picture) == SIZE**2
    drawn = picture.sort_values(["row", "col"])[["red", "green", "blue"]].to_numpy().reshape(SIZE, SIZE, 3)
    np.testing.assert_array_equal(drawn, pixels)


def test_every_other_table_holds_the_values_of_its_functions(config, data, tmp_path, encoder_file):
    tables = extract(config, data, tmp_path, "simmim", encoder=encoder_file)
    study = load_study(config)
    encoder = build_encoder(study.architectures["beit"].spec(), seed=7).eval()
    images = list(dict.fromkeys(tables["fourier"]["image"]))
    pixels = np.stack([np.array(Image.open(data / image)) for image in images])
    tokens = encoder.embed(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    states = encoder.states(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    traces = list(encoder.trace(tokens))

    def column(kind: str, **where) -> np.ndarray:
        """Values in the order of the images, for one place of everything else."""
        rows = tables[kind]
        for name, value in where.items():
            rows = rows[np.isclose(rows[name], value) if isinstance(value, float) else rows[name] == value]
        return rows.set_index("image").loc[images, "value"].to_numpy()

    def same(found, wanted) -> None:
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)

    same(column("diversity", metric="head_similarity", depth=2, head=-1), head_similarity(traces[1].head_outputs))
    same(
        column("diversity", metric="token_similarity_heads", depth=3, head=1),
        token_similarity(traces[2].head_outputs)[:, 1],
    )
    same(column("diversity", metric="token_similarity_blocks", depth=1, head=-1), token_similarity(states[2]))
    around = {"depth_similarity_attention": (states[2], states[3]), "depth_similarity_blocks": (states[2], states[4])}
    for metric, pair in around.items():
        same(column("diversity", metric=metric, depth=2, head=-1), depth_similarity(*pair))
    moved = displacement_variation(states[4], states[5])
    same(column("movement", metric="displacement_variation", depth=3), moved)
    for half in range(7):
        amplitudes = relative_log_amplitudes(states[half])
        for place, frequency in enumerate((0.0, 1 / 3, 2 / 3)):
            same(column("fourier", depth=half / 2, frequency=frequency), amplitudes[:, place])
    for depth in range(4):
        spectrum = token_log_singular_values(states[2 * depth])
        assert spectrum.shape[1] == 35
        for rank in (1, 12):
            same(column("token_spectrum", depth=float(depth), rank=rank), spectrum[:, rank - 1])
        rows = tables["image_spectrum"].query("depth == @depth").sort_values("rank")
        same(rows["value"], image_log_singular_values(states[2 * depth]))
        assert (rows["low"] <= rows["high"]).all() and rows["images"].eq(IMAGES).all()
    means = np.stack([state[:, 1:].mean(1) for state in states])  # (S, M, D)
    spreads = (torch.stack(states)[:, :, 1:] - torch.from_numpy(means)[:, :, None]).square().sum(-1).mean(-1).sqrt()
    distance = np.linalg.norm(means[3, 0] - means[3, 1])
    expected = distance / float((spreads[3, 0] ** 2 + spreads[3, 1] ** 2) / 2) ** 0.5
    same(column("movement", metric="centroid_separation", depth=1.5)[0], expected)


def test_the_control_comes_from_its_seed_and_all_models_see_the_same_images(config, data, tmp_path, encoder_file):
    control = extract(config, data, tmp_path, "untrained_vit")["attention"]
    assert control["paradigm"].unique() == ["control"] and control["method"].unique() == ["untrained"]
    assert control["label"].unique() == ["untrained ViT-64/8"]
    again = extract(config, data, tmp_path, "untrained_vit", threads=2)["attention"]
    np.testing.assert_allclose(again["value"], control["value"], rtol=1e-5)
    trained = extract(config, data, tmp_path, "simmim", encoder=encoder_file)["attention"]
    assert trained["image"].astype(str).tolist() == control["image"].astype(str).tolist()
    assert trained["config_hash"].iloc[0] != control["config_hash"].iloc[0]


def test_the_command_line_writes_the_tables_and_an_error_is_one_line(config, data, tmp_path, capsys):
    options = [f"--config={config}", f"--data={data}", f"--tables={tmp_path}", "--threads=1", "--device=cpu"]
    cli.main(["extract", *options, "--run=untrained_beit_seed0"])
    assert sorted(path.name for path in tmp_path.glob("*/untrained_beit_seed0.parquet")) == len(EXTRACTED) * [
        "untrained_beit_seed0.parquet"
    ]
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        cli.main(["extract", *options, "--run=nobody_seed0"])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: study 'smoke' has no encoder 'nobody_seed0'") and message.count("\n") == 1


# ------------------------------------------------------------------------------------------------
# Queries
# ------------------------------------------------------------------------------------------------


def queries_of(folder: Path, size: tuple[int, int], box: dict, **changes) -> list[tuple[int, int]]:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size).save(folder / "a.png")
    pd.DataFrame([{"path": "a.png"} | box]).to_csv(folder / "images.csv", index=False)
    settings = {"data": folder, "image": "a.png", "size": 48, "grid": 6, "crop_fraction": 1.0} | changes
    return choose_queries("object_background", **settings)


@pytest.mark.parametrize(
    ("box", "on", "off"),
    [
        ({"x": 0, "y": 0, "width": 8, "height": 8, "interior_x": 4, "interior_y": 4}, (0, 0), (5, 5)),
        ({"x": 20, "y": 30, "width": 10, "height": 18, "interior_x": 25, "interior_y": 40}, (5, 3), (0, 0)),
        ({"x": 0, "y": 0, "width": 48, "height": 48, "interior_x": 40, "interior_y": 7}, (0, 5), (5, 0)),
    ],
)
def test_queries_are_on_the_object_and_farthest_from_it(tmp_path, box, on, off):
    assert queries_of(tmp_path, (48, 48), box) == [on, off]


def test_queries_follow_the_resize_and_the_crop(tmp_path):
    box = {"x": 96, "y": 48, "width": 20, "height": 20, "interior_x": 106, "interior_y": 58}
    # 192x96 is halved to 96x48, then 24 px are cut off left and right: (106.5, 58.5) -> (29.25, 29.25)
    assert queries_of(tmp_path, (192, 96), box) == [(3, 3), (0, 0)]
    # halved to 128x64 first: (71, 39) minus (40, 8)
    assert queries_of(tmp_path, (192, 96), box, crop_fraction=0.75)[0] == (3, 3)
    with pytest.raises(UserError, match="outside the centre crop"):
        queries_of(tmp_path, (192, 96), box | {"interior_x": 5})


def test_given_queries_are_taken_as_they_are(tmp_path):
    settings = {"data": tmp_path, "image": "a.png", "size": 48, "grid": 6, "crop_fraction": 1.0}
    assert choose_queries(((0, 5), (3, 3)), **settings) == [(0, 5), (3, 3)]
    with pytest.raises(UserError, match=r"\[6, 0\] is not on the 6x6 grid"):
        choose_queries(((6, 0), (3, 3)), **settings)


# ------------------------------------------------------------------------------------------------
# Errors
# ------------------------------------------------------------------------------------------------


def test_errors_name_what_is_missing(config, data, tmp_path, encoder_file):
    cases = [
        ("nobody", None, r"study 'smoke' has no encoder 'nobody_seed0'; did you mean"),
        ("simmim", None, r"simmim is a trained model; give its file with --encoder"),
        ("simmim", Path("gone.safetensors"), r"gone\.safetensors does not exist"),
        ("untrained_vit", encoder_file, r"untrained_vit is untrained"),
        ("moco_v3", encoder_file, r"not of architecture 'vit': family beit instead of vit"),
    ]
    for model, file, message in cases:
        with pytest.raises(UserError, match=message):
            extract(config, data, tmp_path, model, encoder=file)
    save_encoder(encoder_file, load_encoder(encoder_file, "native"), {"model": "simmim", "seed": 1})
    with pytest.raises(UserError, match=r"states seed 1, but 0"):
        extract(config, data, tmp_path, "simmim", encoder=encoder_file)


def test_a_damaged_data_set_is_named(config, data, tmp_path):
    with pytest.raises(UserError, match=r"nowhere"):
        extract(config, tmp_path / "nowhere", tmp_path, "untrained_vit")
    objects = (data / "images.csv").rename(tmp_path / "away.csv")
    with pytest.raises(UserError, match=r"images\.csv does not exist"):
        extract(config, data, tmp_path, "untrained_vit")
    objects.rename(data / "images.csv")
    for path in (data / "val").glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"\.png cannot be read"):
        extract(config, data, tmp_path, "untrained_vit")
    (data / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        extract(config, data, tmp_path, "untrained_vit")
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_value_that_is_not_finite_names_image_and_depth(config, data, tmp_path):
    encoder = build_encoder(load_study(config).architectures["beit"].spec(), seed=0)
    encoder.backbone.blocks[1].norm1.weight.data[:] = 3e38  # finite, but overflows in block 2
    save_encoder(tmp_path / "x.safetensors", encoder, {})
    with pytest.raises(UserError, match=r"attention_distance of image val/\w+/\d\.png is not finite at depth 2;"):
        extract(config, data, tmp_path, "simmim", encoder=tmp_path / "x.safetensors")
