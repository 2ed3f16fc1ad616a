"""The register of metrics: what a decorator says holds for the function, and what does not fit is refused."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
import torch

from cl_vs_mim.analysis.metrics import Measurement
from cl_vs_mim.analysis.streaming import stream
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from cl_vs_mim.metrics.register import Metric, metric, registered

SPEC = EncoderSpec("vit", 32, 8, 16, 2, 2)
LARGE, SMALL = 100.0, 0.1  # factors of the weights of the blocks: near one-hot and near uniform attention


def measured(spec: EncoderSpec, factor: float, metrics: dict[str, Metric] | None = None) -> Measurement:
    encoder = build_encoder(spec, 0).eval()
    with torch.no_grad():
        for parameter in encoder.backbone.blocks.parameters():
            parameter.mul_(factor)
    measurement = Measurement(spec, metrics)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    list(stream(encoder, images.split(3), list(measurement)))
    return measurement


@pytest.mark.parametrize("factor", [1.0, LARGE, SMALL])
def test_values_lie_in_the_range_that_is_stated(factor):
    measurement = measured(SPEC, factor)
    for name, one in measurement.metrics.items():
        if one.table != "image_spectrum":
            values, _ = measurement.result(name)
            low, high = one.range
            assert values.min() >= low - 1e-5 and values.max() <= high + 1e-5, name


def test_every_metric_of_a_table_has_the_shape_that_is_stated():
    measurement = measured(SPEC, 1.0)
    more = {"image": (), "head": (2,), "rank": (15,), "frequency": (2,), "channel": (16,)}
    depths = {True: 2, False: 5}
    for name, one in measurement.metrics.items():
        if one.table != "image_spectrum":
            values, places = measurement.result(name)
            count = 3 if one.takes == ("block_tokens",) else depths[one.inside]
            assert values.shape == (4, count, *more[one.per]) and len(places) == count, name


def test_one_head_has_no_other_to_be_like():
    assert "head_similarity" not in Measurement(EncoderSpec("vit", 32, 8, 16, 2, 1)).metrics


def module(monkeypatch, **functions) -> dict[str, Metric]:
    """A module with these functions, in their order, as the register reads it."""
    made = types.ModuleType("made_up")
    for name, function in functions.items():
        function.__module__ = "made_up"
        setattr(made, name, function)
    monkeypatch.setitem(sys.modules, "made_up", made)
    return registered(["made_up"])


def test_a_decorated_function_is_plain_and_may_be_several_metrics(monkeypatch):
    @metric(table="diversity", takes="after_attention", name="first")
    @metric(table="diversity", takes="after_mlp", name="second")
    def size(tokens, width):
        return tokens.square().sum((1, 2)) / width

    assert size(torch.ones(2, 3, 4), 4).tolist() == [3, 3]
    found = module(monkeypatch, size=size)
    assert list(found) == ["first", "second"]
    measurement = measured(SPEC, 1.0, found)
    first, depths = measurement.result("first")
    assert (
        first.shape == (4, 2) and depths.tolist() == [1, 2] and not np.allclose(first, measurement.result("second")[0])
    )


def test_what_does_not_fit_is_refused_in_words(monkeypatch):
    def values(*given):
        return given[0]

    def check(expected, **said):
        with pytest.raises(UserError, match=expected):
            Measurement(SPEC, module(monkeypatch, f=metric(name="mine", **said)(lambda x: x)))

    check("into table 'atention'; did you mean 'attention'", table="atention", takes="attention", per="head")
    check(
        "has one value per rank, but table 'attention' one per head", table="attention", takes="attention", per="rank"
    )
    check("inside blocks, which 'mine' is not", table="diversity", takes="tokens")
    two = {name: metric(table="fourier", takes="tokens", per="frequency", name=name)(lambda x: x) for name in "ab"}
    with pytest.raises(UserError, match="'fourier' holds 'a' alone; 'b' needs one of its own"):
        Measurement(SPEC, module(monkeypatch, **two))
    with pytest.raises(ValueError, match="two metrics are called 'a'"):
        module(monkeypatch, one=metric(table="", takes="tokens", name="a")(lambda x: x), two=two["a"])
    with pytest.raises(ValueError, match="takes gone, which no metric measures"):
        module(monkeypatch, f=metric(table="movement", takes="gone")(values))
    with pytest.raises(ValueError, match="not there at the same time"):
        metric(table="movement", takes=("before", "tokens"))(values)


def test_an_unbounded_range_is_the_default():
    @metric(table="", takes="tokens")
    def one(tokens):
        return tokens

    (found,) = one.registered_metrics
    assert found.range == (-math.inf, math.inf) and found.name == "one"
