"""Attentive probes: that the query finds where the answer is, the rows of the table, and repeats."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.tables import HEAD, read_table
from cl_vs_mim.data.images import normalise
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.evaluated import depth_tokens
from cl_vs_mim.transfer import commands
from cl_vs_mim.transfer.attentive_probe.fitting import Channels, Probes
from test_linear_probe import DEPTH, write_data

RUN = "untrained_vit_seed0"
TEXT = "attentive_probe: {labels: [class], learning_rates: [0.1, 1.0], epochs: 1, batch_size: 64}"
LONGER = "attentive_probe: {labels: [class, category], learning_rates: [0.1, 1.0], epochs: 12, batch_size: 16}"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("objects"))


def probed(root: Path, data: Path, folder: Path, text: str = LONGER) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    config = folder / "smoke.yaml"
    config.write_text((root / "config" / "smoke.yaml").read_text().replace(TEXT, text))
    assert text in config.read_text()
    options = {"config": config, "run": RUN, "data": data, "tables": folder, "device": "cpu", "threads": 1}
    commands.transfer(task="attentive_probe", **options)
    return read_table(folder / "attentive_probe" / f"{RUN}.parquet")


def test_every_image_has_a_row_at_every_depth(root, data, tmp_path) -> None:
    table = probed(root, data, tmp_path / "one")
    assert set(HEAD) <= set(table) and set(table["protocol"]) == set(table["pooling"]) == {"attentive"}
    rows = table.groupby(["labels", "split"], observed=True).size()
    assert rows.to_dict() == {
        ("class", "val"): 10 * (DEPTH + 1),
        ("category", "val"): 10 * (DEPTH + 1),
        ("category", "heldout"): 4 * (DEPTH + 1),
    }
    assert set(table["learning_rate"]) <= {0.1, 1.0} and set(table["value"]) <= {0.0, 1.0}
    last = table[(table["depth"] == DEPTH) & (table["labels"] == "class")]
    assert last["value"].mean() > 0.8, "identities differ in colour, which random weights keep"
    again = probed(root, data, tmp_path / "two")
    pd.testing.assert_series_equal(table["value"], again["value"])


def test_a_loss_that_is_not_finite_is_said(root, data, tmp_path) -> None:
    with pytest.raises(UserError, match=r"lower the largest of transfer\.attentive_probe\.learning_rates"):
        probed(root, data, tmp_path, LONGER.replace("[0.1, 1.0]", "[1.0e+30]"))


def test_the_query_finds_the_token_that_the_mean_drowns() -> None:
    """One token of sixteen holds the label, marked by a channel; the others hold other labels and no mark."""
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 4, (count, 16), generator=generator)
        tokens = torch.zeros(count, 16, 6)
        tokens[..., :4] = torch.nn.functional.one_hot(labels, 4).float()
        place = torch.randint(0, 16, (count,), generator=generator)
        tokens[torch.arange(count), place, 4] = 4.0
        return tokens + 0.01 * torch.randn(tokens.shape, generator=generator), labels[torch.arange(count), place]

    train, targets = drawn(1024)
    channels = Channels()
    channels.add(train[:500])
    channels.add(train[500:])
    probe, plain = (Probes(6, 4, [2.0], 0.9) for _ in range(2))
    for step in range(400):
        probe.step(channels.standardised(train), targets, 1 - step / 400)
        plain.step(channels.standardised(train.mean(dim=1, keepdim=True)), targets, 1 - step / 400)
    tokens, asked = drawn(1000)
    right = (probe(channels.standardised(tokens))[:, 0].argmax(-1) == asked).float().mean()
    drowned = (plain(channels.standardised(tokens.mean(dim=1, keepdim=True)))[:, 0].argmax(-1) == asked).float().mean()
    assert right > 0.95 and drowned < 0.6, (right, drowned)


def test_probes_of_several_rates_are_those_that_each_would_be_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    tokens, targets = torch.randn(32, 5, 8, generator=generator), torch.randint(0, 3, (32,), generator=generator)
    together, alone = Probes(8, 3, [0.5, 4.0], 0.9), [Probes(8, 3, [rate], 0.9) for rate in (0.5, 4.0)]
    for _ in range(5):
        for one in (together, *alone):
            one.step(tokens, targets, 1.0)
    for place, one in enumerate(alone):
        torch.testing.assert_close(together(tokens)[:, place], one(tokens)[:, 0])


def test_channels_are_standardised_exactly() -> None:
    tokens = 3 + 2 * torch.randn(40, 7, 5, generator=torch.Generator().manual_seed(2))
    channels = Channels()
    for part in tokens.split(9):
        channels.add(part)
    found = channels.standardised(tokens).flatten(0, 1)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(dim=0, correction=0), torch.ones(5), atol=1e-4, rtol=0)


def test_tokens_of_all_depths_are_the_encoders_states() -> None:
    encoder = build_encoder(EncoderSpec("beit", 32, 8, 24, 3, 3, positions="relative_by_block"), 0).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    states = encoder.states(normalise(pixels))[::2]
    for found, wanted in zip(depth_tokens(encoder, pixels), states, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_claims_of_linear_probes_are_asked_of_it_too(root) -> None:
    file = load_claims(root / "config" / "claims.yaml")
    for number in ("C1", "C23", "C24", "C25"):
        for contrast in file.claims[number].contrasts:
            assert "attentive_probe" in {one.table for one in contrast.alternatives}
