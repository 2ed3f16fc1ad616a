"""Votes of the nearest training images at every depth: the rows, the vote, and what the audit reads of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.audit.reads import tables_of_claims
from cl_vs_mim.config import load_study
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.encoder.checkpoints import save_encoder
from cl_vs_mim.encoder.model import build_encoder
from cl_vs_mim.metrics.neighbours import nearest_neighbour_classes, vote
from cl_vs_mim.transfer import commands
from cl_vs_mim.transfer.knn_probe.evaluate import Nearest
from test_linear_probe import DEPTH, write_data

RUN = "untrained_vit_seed0"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("objects"))


def probed(root: Path, data: Path, folder: Path, text: str = "", **more) -> pd.DataFrame:
    config = folder / "smoke.yaml"
    given = (root / "config" / "smoke.yaml").read_text()
    config.write_text(given.replace("knn_probe: {labels: [class], neighbours: 5}", text) if text else given)
    options = {"config": config, "run": RUN, "data": data, "tables": folder, "device": "cpu", "threads": 1}
    commands.transfer(task="knn_probe", **options | more)
    return read_table(folder / "knn_probe" / f"{RUN}.parquet")


def test_every_image_has_a_row_at_every_depth_and_pooling(root, data, tmp_path) -> None:
    table = probed(root, data, tmp_path, "knn_probe: {labels: [class, category], neighbours: 5}")
    assert set(HEAD) <= set(table) and set(table["protocol"]) == {"knn"} and set(table["value"]) <= {0.0, 1.0}
    rows = table.groupby(["labels", "split"], observed=True).size()
    sets = 2 * (DEPTH + 1)
    assert rows.to_dict() == {
        ("class", "val"): 10 * sets,
        ("category", "val"): 10 * sets,
        ("category", "heldout"): 4 * sets,
    }
    last = table[(table["depth"] == DEPTH) & (table["pooling"] == "mean") & (table["labels"] == "class")]
    assert last["value"].mean() > 0.8, "identities differ in colour, which random weights keep"
    embedded = table[(table["depth"] == 0) & (table["pooling"] == "cls") & (table["labels"] == "class")]
    assert embedded["value"].mean() == pytest.approx(0.2), "the CLS token of the embedding has seen no image"
    again = probed(root, data, tmp_path, "knn_probe: {labels: [class, category], neighbours: 5}")
    pd.testing.assert_series_equal(table["value"], again["value"])


def test_neighbours_are_the_same_however_the_training_images_come() -> None:
    generator = torch.Generator().manual_seed(0)
    asked, known = (torch.randn(3, count, 8, generator=generator) for count in (7, 50))
    labels = torch.randint(0, 4, (50,), generator=generator)
    nearest = Nearest(normalize(asked, dim=-1), 6)
    for first, part in zip((0, 20, 21), known.split([20, 1, 29], dim=1), strict=True):
        nearest.add(normalize(part, dim=-1), first)
    found = vote(nearest.cosines, labels[nearest.places], 4, 0.07)
    for place in range(3):
        assert torch.equal(found[place], nearest_neighbour_classes(asked[place], known[place], labels, 6))


def test_fewer_training_images_than_neighbours_all_vote() -> None:
    nearest = Nearest(torch.ones(1, 2, 1), 20)
    nearest.add(torch.ones(1, 3, 1), 0)
    assert nearest.places.shape == (1, 2, 3)


def test_an_encoder_that_diverged_is_said(root, data, tmp_path) -> None:
    study = load_study(root / "config" / "smoke.yaml")
    encoder = build_encoder(study.architectures["vit"].spec(), 0)
    with torch.no_grad():
        encoder.blocks[1].mlp.fc2.bias[:] = 3e38
    save_encoder(tmp_path / "e.safetensors", encoder, {"model": "moco_v3", "seed": 0})
    with pytest.raises(UserError, match="not finite: the encoder has diverged"):
        probed(root, data, tmp_path, run="moco_v3_seed0", encoder=tmp_path / "e.safetensors")


def test_claims_of_linear_probes_are_asked_of_neighbours_too(root) -> None:
    file = load_claims(root / "config" / "claims.yaml")
    for number in ("C1", "C23", "C24", "C25"):
        for contrast in file.claims[number].contrasts:
            assert {"mean", "cls"} == {
                one.where.get("pooling", "mean") for one in contrast.alternatives if one.table == "knn_probe"
            }
    tables = tables_of_claims(file, load_study(root / "config" / "smoke.yaml"))
    assert {"knn_probe/moco_v3_seed0", "knn_probe/simmim_seed0", "knn_probe/untrained_beit_seed0"} <= set(tables)
    assert np.all([not name.startswith("knn_probe/hybrid") for name in tables])
