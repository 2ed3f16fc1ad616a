"""The command: tables of the agreed columns, the choice made without the validation images, and probes in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.data.images import index_image_folder, normalise
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.encoder.pooling import pool
from cl_vs_mim.transfer import commands
from cl_vs_mim.transfer.linear_probe.probes import load_probe
from cl_vs_mim.transfer.linear_probe.selection import hold_back

ROOT = Path(__file__).resolve().parent.parent
SIZE, DEPTH = 48, 3
CATEGORIES = {"apple": "fruit", "cup": "household", "dog": "mammal", "fox": "mammal", "jar": "household"}


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    study = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    study["analysis"]["probe"] |= {"epochs": 15, "learning_rates": [0.1, 3.0], "batch_size": 16}
    path = tmp_path_factory.mktemp("config") / "smoke.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def write_data(folder: Path) -> Path:
    """Identities of one mean colour each, a fruit only among those trained on; noise tells their images apart."""
    generator, rows = np.random.default_rng(0), []
    colours = {name: generator.integers(40, 216, 3) for name in CATEGORIES}
    held = {"household": colours["cup"], "mammal": colours["dog"]}
    splits = [("train", 12, colours), ("val", 2, colours), ("heldout", 2, held)]
    for split, count, found in splits:
        for name, colour in found.items():
            for number in range(count):
                path = folder / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.clip(colour + generator.normal(0, 12, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(path)
                rows.append({"path": f"{split}/{name}/{number}.png", "category": CATEGORIES.get(name, name)})
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps({"data_hash": "f00d"}))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("objects"))


def probe(
    config: Path, data: Path, folder: Path, *, model: str = "untrained_vit", **more: object
) -> dict[str, pd.DataFrame]:
    """The tables of one call of the command, by the ends of their names."""
    given = {"config": config, "run": f"{model}_seed0", "data": data, "device": "cpu", "threads": 1}
    given |= {"tables": folder / "tables", "probes": folder / "probes.safetensors"}
    commands.linear_probe(**given | more)
    places = {"output": "linear_probe", "selection": "linear_probe_selection"}
    return {name: read_table(folder / "tables" / kind / f"{model}_seed0.parquet") for name, kind in places.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("first")


@pytest.fixture(scope="module")
def tables(config, data, folder) -> dict[str, pd.DataFrame]:
    return probe(config, data, folder)


def test_the_table_has_a_row_for_every_answer(tables: dict[str, pd.DataFrame], data: Path) -> None:
    table = tables["output"]
    counts = table.groupby(["labels", "split"], observed=True).size().to_dict()
    assert counts == {
        ("class", "val"): 10 * (DEPTH + 1) * 2,
        ("category", "val"): 10 * (DEPTH + 1) * 2,
        ("category", "heldout"): 4 * (DEPTH + 1) * 2,  # never by class: no held-out object has one
    }
    assert not table.duplicated(["labels", "split", "image", "depth", "pooling"]).any()
    constants = {
        **{"study": "smoke", "data_hash": "f00d", "model": "untrained_vit", "label": "untrained ViT-64/8"},
        **{"method": "untrained", "paradigm": "control", "architecture": "vit", "seed": 0},
        **{"metric": "top1", "protocol": "cached"},
    }
    assert {name: table[name].unique().tolist() for name in constants} == {k: [v] for k, v in constants.items()}
    assert set(HEAD) <= set(table.columns) and table.drop(columns="lambda").notna().all(axis=None)  # of hybrids only
    assert sorted(table["depth"].unique()) == [0, 1, 2, 3] and set(table["pooling"]) == {"cls", "mean"}
    assert set(table["value"]) <= {0.0, 1.0}
    assert table.groupby("labels", observed=True)["classes"].unique().map(list).to_dict() == {
        "category": [3],
        "class": [5],
    }
    assert all((data / image).is_file() for image in table["image"].unique())
    # Most training images are of households or mammals, equally many: the first of the two, 4 of 10 and 2 of 4.
    assert table.groupby(["labels", "split"], observed=True)["chance"].first().to_dict() == {
        **{("class", "val"): 0.2, ("category", "val"): 0.4, ("category", "heldout"): 0.5}
    }


def test_colours_are_read_from_patches_and_not_from_the_cls_of_the_embedding(tables: dict[str, pd.DataFrame]) -> None:
    accuracy = tables["output"].groupby(["labels", "split", "pooling", "depth"], observed=True)["value"].mean()
    assert accuracy["class", "val", "mean", 0] == 1
    assert accuracy["category", "heldout", "mean", 0] == 1
    assert accuracy["class", "val", "cls", 0] == 0.2  # the same vector for every image
    assert accuracy["class", "val", "cls", DEPTH] > 0.5


def test_the_selection_table_says_what_was_tried(tables: dict[str, pd.DataFrame]) -> None:
    selection, table = tables["selection"], tables["output"]
    groups = selection.groupby(["labels", "depth", "pooling"], observed=True)
    assert len(groups) == 2 * (DEPTH + 1) * 2
    assert (groups["chosen"].sum() == 1).all()
    assert set(selection["learning_rate"]) == {0.1, 3.0}
    best = selection[selection["chosen"]].set_index(["labels", "depth", "pooling"])
    assert (best["value"] == groups["value"].max().reindex(best.index)).all()
    used = table.groupby(["labels", "depth", "pooling"], observed=True)["learning_rate"].unique()
    assert all(used[key].tolist() == [rate] for key, rate in best["learning_rate"].items())


def test_a_repeat_is_the_same_to_the_bit_and_memory_or_file_does_not_matter(
    config, data, folder, tables, tmp_path
) -> None:
    again = probe(config, data, tmp_path, memory_gib=0, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, again[name])
    assert (folder / "probes.safetensors").read_bytes() == (tmp_path / "probes.safetensors").read_bytes()


def test_validation_images_have_no_say(config, tables, folder, tmp_path) -> None:
    other = write_data(tmp_path / "objects")
    for path in (other / "val").rglob("*.png"):
        Image.fromarray(np.zeros((SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    again = probe(config, other, tmp_path)
    assert again["selection"]["value"].equals(tables["selection"]["value"])
    assert (folder / "probes.safetensors").read_bytes() == (tmp_path / "probes.safetensors").read_bytes()


def test_images_held_back_are_not_fitted(config, tmp_path) -> None:
    """With one learning rate there is nothing to choose, so what is held back can change no probe."""
    study = yaml.safe_load(config.read_text())
    study["analysis"]["probe"]["learning_rates"] = [1.0]
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(study))
    data, files, selections = write_data(tmp_path / "objects"), [], []
    index = index_image_folder(data / "train")
    fitted, held = hold_back(index.labels, load_study(tmp_path / "smoke.yaml").analysis.probe)
    for spoilt in (None, held[0], fitted[0]):
        if spoilt is not None:
            Image.fromarray(np.zeros((SIZE, SIZE, 3), dtype=np.uint8)).save(index.root / index.paths[spoilt])
        selections.append(probe(tmp_path / "smoke.yaml", data, tmp_path)["selection"]["value"])
        files.append((tmp_path / "probes.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]
    assert not selections[0].equals(selections[1])  # but it is what the accuracy is measured on


def test_a_probe_from_its_file_gives_the_tables_answers(config, data, folder, tables) -> None:
    encoder = build_encoder(load_study(config).architectures["vit"].spec(), seed=0).eval()
    table = tables["output"]
    for labels, depth, pooling in (("class", 2, "mean"), ("category", 3, "cls"), ("category", 0, "mean")):
        probe = load_probe(folder / "probes.safetensors", labels, depth, pooling)
        assert probe.classes == (tuple(sorted(CATEGORIES)) if labels == "class" else ("fruit", "household", "mammal"))
        rows = table.query("labels == @labels and depth == @depth and pooling == @pooling and split == 'val'")
        assert rows["learning_rate"].unique().tolist() == [probe.learning_rate]
        for image, value in zip(rows["image"], rows["value"], strict=True):
            pixels = torch.from_numpy(np.array(Image.open(data / image))).permute(2, 0, 1)[None]
            logits = probe(pool(encoder.states(normalise(pixels))[2 * depth], pooling))
            assert logits.shape == (1, len(probe.classes))
            identity = image.split("/")[1]
            truth = identity if labels == "class" else CATEGORIES[identity]
            assert value == (probe.classes[int(logits.argmax())] == truth)


def test_a_probe_that_is_not_there_is_said(folder, tables, config, tmp_path) -> None:
    path = folder / "probes.safetensors"
    with pytest.raises(UserError, match="has probes of category, class, none of 'texture'"):
        load_probe(path, "texture", 0, "mean")
    with pytest.raises(UserError, match=r"no probe of depth 4, 'mean'; it has depths 0 … 3, poolings cls, mean"):
        load_probe(path, "class", 4, "mean")
    with pytest.raises(UserError, match="no probe of depth -1"):
        load_probe(path, "class", -1, "mean")
    with pytest.raises(UserError, match=r"missing\.safetensors cannot be read"):
        load_probe(tmp_path / "missing.safetensors", "class", 0, "mean")
    encoder = build_encoder(load_study(config).architectures["vit"].spec(), seed=0)
    save_encoder(tmp_path / "encoder.safetensors", encoder, {})
    with pytest.raises(UserError, match=r"encoder\.safetensors holds no probes"):
        load_probe(tmp_path / "encoder.safetensors", "class", 0, "mean")


def test_an_ordinary_image_folder_is_probed_by_class_alone(config, data, tmp_path) -> None:
    folder = write_data(tmp_path / "objects")
    (folder / "images.csv").unlink()
    with pytest.raises(UserError, match=r"set analysis\.probe\.labels to \[class\]"):
        probe(config, folder, tmp_path)
    study = yaml.safe_load(config.read_text())
    study["analysis"]["probe"]["labels"] = ["class"]
    study["analysis"]["robustness"]["labels"] = "class"
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(study))
    table = probe(tmp_path / "smoke.yaml", folder, tmp_path)["output"]
    assert set(table["split"]) == {"val"} and set(table["labels"]) == {"class"}
